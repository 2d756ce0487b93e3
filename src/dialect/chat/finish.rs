//! Why an answer ended, in chat's words and in those of the providers that speak it (spec: providers 16).

use super::super::neutral::{Stop, StopReason};

/// What a provider's word says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finish {
    /// The answer is whole, or as whole as it could be.
    Ended(Stop),
    /// The provider failed.
    Failed,
}

/// Reads `finish_reason`. A provider that says `stop` after calls of tools, as OpenAI does when the tool was named by the client,
/// waits for them all the same.
pub fn read(word: &str, has_calls: bool) -> Finish {
    let reason = match word {
        "stop" => StopReason::End,
        "length" => StopReason::Length,
        "tool_calls" => StopReason::ToolUse,
        "content_filter" => StopReason::Filter,
        "eos" | "eos_token" | "completed" | "end_turn" | "" => StopReason::End,
        "stop_sequence" => StopReason::StopSequence,
        "model_length" | "max_tokens" => StopReason::Length,
        "function_call" | "tool_use" | "tool_call" => StopReason::ToolUse,
        "sensitive" | "safety" | "refusal" => StopReason::Filter,
        "error" | "insufficient_system_resource" => return Finish::Failed,
        _ => StopReason::End,
    };
    let reason = match reason {
        StopReason::End if has_calls => StopReason::ToolUse,
        reason => reason,
    };
    Finish::Ended(match self::word(reason) == word || word.is_empty() {
        true => Stop::new(reason),
        false => Stop::with_native(reason, word),
    })
}

/// Chat's word.
pub fn word(reason: StopReason) -> &'static str {
    match reason {
        StopReason::End | StopReason::StopSequence => "stop",
        StopReason::Length => "length",
        StopReason::ToolUse => "tool_calls",
        StopReason::Filter => "content_filter",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_has_its_meaning_and_is_kept_where_ours_says_less() {
        for (theirs, calls, ours, native) in [
            ("stop", false, "stop", None),
            ("stop", true, "tool_calls", Some("stop")),
            ("length", true, "length", None),
            ("tool_calls", true, "tool_calls", None),
            ("content_filter", false, "content_filter", None),
            ("eos", false, "stop", Some("eos")),
            ("eos_token", false, "stop", Some("eos_token")),
            ("completed", false, "stop", Some("completed")),
            ("model_length", false, "length", Some("model_length")),
            ("function_call", true, "tool_calls", Some("function_call")),
            ("", true, "tool_calls", None),
            ("sensitive", false, "content_filter", Some("sensitive")),
            ("something_new", false, "stop", Some("something_new")),
        ] {
            let Finish::Ended(stop) = read(theirs, calls) else {
                panic!("{theirs} is an end");
            };
            assert_eq!(word(stop.reason), ours, "{theirs}");
            assert_eq!(stop.native.as_deref(), native, "{theirs}");
        }
        assert_eq!(read("error", false), Finish::Failed);
        assert_eq!(read("insufficient_system_resource", true), Finish::Failed);
    }
}
