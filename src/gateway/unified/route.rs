//! A model that is a dynamic route: its elements choose which models are asked, one after the other (spec: data plane 7,
//! resolutions 11 and 12).

use std::borrow::Cow;
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value};

use super::{ANY_PROVIDER, Begun, Exchange, Refusal, Reply};
use crate::gateway::attempt::Failure;
use crate::gateway::error::GatewayError;
use crate::gateway::metadata;
use crate::http::RequestHead;
use crate::limits::RESERVATION_MAX;
use crate::meter::cost::Money;
use crate::record::Routed;
use crate::route::{
    Allowance, Count, End, Field, FieldValue, Graph, Model, Request, Step, Technique, Walk,
};
use crate::snapshot::{Route, Token};
use crate::tables::rate::Verdict;
use crate::tables::{self, Key};

/// The route that a model names.
pub(super) fn named(model: &str) -> Option<&str> {
    model
        .strip_prefix("dynamic/")
        .filter(|name| !name.is_empty())
}

/// What a model element came to.
enum Answered {
    /// An answer, which may go down.
    Yes(Begun),
    /// One by which the model failed.
    Badly(Box<Reply>),
    No(Box<GatewayError>),
}

/// What there is for the client so far.
#[derive(Default)]
struct Best {
    /// The answer of a model that answered, while another one is asked.
    answer: Option<Begun>,
    /// The last answer of a model that failed.
    failed: Option<Box<Reply>>,
    /// The last error without an answer.
    error: Option<Box<GatewayError>>,
    /// Whether the last step has given one of the first two, and the record of it is the current one.
    current: bool,
}

impl<'e> Exchange<'e, '_, '_> {
    /// Goes through the route of this name.
    pub(super) async fn route(
        &mut self,
        name: &str,
        stream: bool,
        body: Bytes,
    ) -> Result<Begun, Refusal> {
        let settle = &mut *self.settle;
        settle.record.model = Some(format!("dynamic/{name}").into());
        // An entry of the log has to name a provider.
        settle.record.provider = Some(ANY_PROVIDER.into());
        let route = self.admitted.asked.gateway.routes.get(name).cloned();
        let route = route.ok_or_else(|| {
            GatewayError::unroutable(format!("There is no deployed route {name:?}"))
        })?;
        self.at_element(&route, "");
        let request = self.request_of(&route.graph, &body).await?;
        let mut walk = Walk::new(&route.graph);
        let mut told = 0;
        let (knobs, more) = (self.knobs, self.more);
        let mut best = Best::default();
        let mut refused = None;
        let mut step = walk.begin(&route.graph, &request);
        loop {
            self.tell(&walk, &mut told, &route.graph, &request);
            step = match step {
                Step::Count(count) => {
                    let counted = self.look_at(&route, &count);
                    let within = counted.is_ok();
                    refused = counted.err().or(refused);
                    walk.counted(within, &route.graph, &request)
                }
                Step::Ask(ask) => {
                    if ask.number > 0 {
                        self.next_step(best.current, &body);
                    }
                    self.at_element(&route, ask.id);
                    // The element's own count for it alone; where it names no timeout, the request's does.
                    let (tries, timeout) = (ask.model.retries + 1, ask.model.timeout);
                    self.knobs = knobs.tried(self.head, tries, timeout.or(knobs.timeout));
                    self.more = ask.has_others || more || best.answer.is_some();
                    let asked = self.ask_model(ask.model, stream, body.clone()).await?;
                    let answers = matches!(asked, Answered::Yes(_));
                    best.take(asked);
                    walk.asked(answers, &route.graph, &request)
                }
                Step::End(end) => {
                    (self.knobs, self.more) = (knobs, more);
                    return self.end(&route, end, best, refused);
                }
            };
        }
    }

    /// What the route comes to.
    fn end(
        &mut self,
        route: &Route,
        end: End<'_>,
        best: Best,
        refused: Option<GatewayError>,
    ) -> Result<Begun, Refusal> {
        if let Some(answer) = best.answer {
            if !best.current {
                self.settle.go_back();
            }
            return Ok(answer);
        }
        if let Some(failed) = best.failed {
            if !best.current {
                self.settle.go_back();
            }
            return Ok(self.failed(*failed));
        }
        let error = match (end, best.error, refused) {
            (_, Some(error), _) => *error,
            (End::Limit(_), None, Some(refused)) => refused,
            _ => {
                let name = &route.name;
                GatewayError::unroutable(format!("The route {name:?} ends without a model"))
            }
        };
        Err(error.into())
    }

    /// Asks the model of an element.
    async fn ask_model(
        &mut self,
        model: &Model,
        stream: bool,
        body: Bytes,
    ) -> Result<Answered, Refusal> {
        self.settle.record.model = Some(model.model.clone());
        let begun = match self.admitted.providers.get(&model.provider).cloned() {
            Some(entry) => {
                self.settle.record.provider = Some(entry.name.clone());
                // Boxed: what is asked without a route should not carry the room for it.
                Box::pin(self.ask(&entry, &model.model, stream, body)).await
            }
            None => {
                self.settle.record.provider = Some((&*model.provider).into());
                let told = format!("No provider is called {:?}", model.provider);
                Err(GatewayError::no_provider(told).into())
            }
        };
        let begun = match begun {
            Ok(begun) => begun,
            Err(Refusal::Invalid(invalid)) => self.refused(400, &invalid),
            Err(Refusal::Failure(Failure::Error(error))) => {
                self.settle.note_error(&error, self.settings.error_status);
                return Ok(Answered::No(error));
            }
            Err(gone) => return Err(gone),
        };
        Ok(match begun {
            Begun::Failed(reply) => {
                self.settle.record.status = reply.status;
                let settle = &mut *self.settle;
                settle.log_answer(Some(&reply.content_type), None, None);
                if settle.kept_answer().is_some() {
                    settle.keep_answer(&Bytes::copy_from_slice(&reply.body));
                }
                Answered::Badly(reply)
            }
            begun => Answered::Yes(begun),
        })
    }

    /// Closes the record of one model and begins that of the next.
    fn next_step(&mut self, answered: bool, body: &Bytes) {
        let settle = &mut *self.settle;
        let log = settle.record.log.as_ref();
        let user_agent = log.and_then(|log| log.user_agent.clone());
        settle.next_step(answered);
        settle.begin_step(self.head);
        settle.note_gateway(self.head, &self.admitted.asked.gateway);
        if let Some(kept) = settle.kept_request() {
            kept.share(body.clone());
        }
        if let Some(log) = &mut settle.record.log {
            log.user_agent = log.user_agent.take().or(user_agent);
        }
    }

    /// Notes where in the route the request is.
    fn at_element(&mut self, route: &Route, element: &str) {
        self.settle.record.route = Some(Box::new(Routed {
            name: route.name.clone(),
            version_id: route.version_id.clone(),
            element_id: element.into(),
        }));
    }

    /// Notes for the log which elements were passed since this was last done.
    fn tell(&mut self, walk: &Walk, told: &mut usize, graph: &Graph, request: &Asking<'_>) {
        if self.settle.record.log.is_none() {
            return;
        }
        for passage in walk.passages(*told, graph, request) {
            *told += 1;
            let (outcome, share) = match &passage.outcome {
                None => ("passed", None),
                Some(Cow::Borrowed(output)) => (*output, None),
                Some(Cow::Owned(share)) => ("drawn", Some(share)),
            };
            self.settle.decided("route", outcome, || {
                let saw = passage.saw_text();
                let saw = match share {
                    Some(share) => format!("{saw} share=\"{share}\""),
                    None => saw,
                };
                [
                    ("element", (&*passage.element.id).into()),
                    ("type", passage.element.kind.name().into()),
                    ("saw", saw.into()),
                    ("next", passage.next.unwrap_or_default().into()),
                ]
            });
        }
    }

    /// Counts the request at a rate element, or reserves for it; what the client is told where that is not allowed.
    fn look_at(&mut self, route: &Route, count: &Count<'_>) -> Result<(), GatewayError> {
        let ledger = &self.thread.shared.ledger;
        let now = ledger.now();
        let values = count.bucket.as_deref().map(str::as_bytes);
        let key = Key::rule(&["route", &route.id, count.id]).of(values);
        let rate = count.rate;
        let technique = match rate.technique {
            Technique::Fixed => tables::Technique::Fixed,
            Technique::Sliding => tables::Technique::Sliding,
        };
        match rate.allowance {
            Allowance::Requests(limit) => {
                match ledger.rates.admit(key, limit, rate.window, technique, now) {
                    Verdict::Admitted { .. } => Ok(()),
                    Verdict::Refused { wait, .. } => Err(GatewayError::rate_limited(wait)),
                }
            }
            Allowance::Cost(limit) => {
                let budgets = &ledger.budgets;
                let total = self.settings.clocks.total.unwrap_or(RESERVATION_MAX);
                let (limit, window) = (Money(limit), rate.window);
                match budgets.reserve(key, limit, window, technique, Money::ZERO, now, total) {
                    Ok(hold) => {
                        self.settle.reserve(hold);
                        Ok(())
                    }
                    Err(exceeded) => {
                        let told = format!(
                            "Spend limit exceeded: rule '{}' of route '{}' (cost limit {} per {}s, {})",
                            count.id,
                            route.name,
                            limit.0 as f64 / 1e12,
                            window.as_secs(),
                            rate.technique.as_str(),
                        );
                        Err(GatewayError::spent(told, exceeded.wait))
                    }
                }
            }
        }
    }

    /// What the route may look at.
    async fn request_of(&self, graph: &Graph, body: &Bytes) -> Result<Asking<'e>, Refusal> {
        let document = match graph.reads_body() {
            true => {
                let bytes = body.clone();
                let read = move || serde_json::from_slice(&bytes).ok();
                self.aside(body.len(), read).await?
            }
            false => None,
        };
        let metadata = self.head.header("cf-aig-metadata").and_then(metadata::read);
        Ok(Asking {
            head: self.head,
            token: self.admitted.identity.token.as_ref(),
            metadata: metadata.and_then(|text| serde_json::from_str(&text).ok()),
            body: document,
            drawn: Cell::new(0),
            dice: RandomState::new(),
        })
    }
}

impl Best {
    fn take(&mut self, asked: Answered) {
        self.current = match asked {
            Answered::Yes(begun) => {
                self.answer = Some(begun);
                true
            }
            Answered::Badly(reply) => {
                self.failed = Some(reply);
                self.answer.is_none()
            }
            Answered::No(error) => {
                self.error = Some(error);
                false
            }
        };
    }
}

/// A request, as a route looks at it.
struct Asking<'a> {
    head: &'a RequestHead,
    token: Option<&'a Arc<Token>>,
    metadata: Option<Map<String, Value>>,
    body: Option<Value>,
    drawn: Cell<u64>,
    dice: RandomState,
}

impl Request for Asking<'_> {
    fn field(&self, field: &Field) -> Option<FieldValue<'_>> {
        match field {
            Field::Metadata(key) => match (&**key, self.token) {
                ("cf.token_id", Some(token)) => Some(FieldValue::Text(&token.id)),
                ("cf.token_name", Some(token)) => Some(FieldValue::Text(&token.name)),
                (key, _) => self.metadata.as_ref()?.get(key).map(FieldValue::from),
            },
            Field::Body(names) => FieldValue::find(self.body.as_ref()?, names),
            Field::Header(name) => {
                let value = self.head.header(name)?;
                std::str::from_utf8(value).ok().map(FieldValue::Text)
            }
        }
    }

    /// A keyed hash of how often it was asked: the keys are random, and others for each request.
    fn draw(&self) -> u64 {
        let drawn = self.drawn.replace(self.drawn.get() + 1);
        self.dice.hash_one(drawn)
    }
}
