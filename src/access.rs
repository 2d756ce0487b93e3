//! What a token may do: permission groups, policies and what they come to, and the form of generated tokens (spec: control
//! plane 7.1 and 7.2).

use std::sync::LazyLock;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// One thing a token may do, as one bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Permission {
    GatewayRead,
    GatewayWrite,
    GatewayRun,
    GatewayMetadataRead,
    WorkersAiRead,
    WorkersAiWrite,
    SecretsStoreRead,
    SecretsStoreWrite,
    AccountTokensRead,
    AccountTokensWrite,
    UserTokensRead,
    UserTokensWrite,
    LogsRead,
    LogsWrite,
    AnalyticsRead,
    AccountSettingsRead,
    ZeroTrustRead,
    ZeroTrustWrite,
    Admin,
}

/// A permission group as the API lists it.
#[derive(Debug)]
pub struct Group {
    /// 32 hexadecimal digits, the same in every installation.
    pub id: String,
    /// As the API names it.
    pub name: &'static str,
    /// What it gives.
    pub permission: Permission,
}

use Permission as P;

/// Names and, where Cloudflare's is known, ids.
const GROUPS: [(&str, Option<&str>, Permission); 19] = [
    ("AI Gateway Read", None, P::GatewayRead),
    ("AI Gateway Write", None, P::GatewayWrite),
    (
        "AI Gateway Run",
        Some("644535f4ed854494a59cb289d634b257"),
        P::GatewayRun,
    ),
    ("AI Gateway Metadata Read", None, P::GatewayMetadataRead),
    (
        "Workers AI Read",
        Some("a92d2450e05d4e7bb7d0a64968f83d11"),
        P::WorkersAiRead,
    ),
    ("Workers AI Write", None, P::WorkersAiWrite),
    ("Secrets Store Read", None, P::SecretsStoreRead),
    ("Secrets Store Write", None, P::SecretsStoreWrite),
    ("Account API Tokens Read", None, P::AccountTokensRead),
    ("Account API Tokens Write", None, P::AccountTokensWrite),
    ("API Tokens Read", None, P::UserTokensRead),
    ("API Tokens Write", None, P::UserTokensWrite),
    ("Logs Read", None, P::LogsRead),
    ("Logs Write", None, P::LogsWrite),
    ("Account Analytics Read", None, P::AnalyticsRead),
    ("Account Settings Read", None, P::AccountSettingsRead),
    ("Zero Trust Read", None, P::ZeroTrustRead),
    ("Zero Trust Write", None, P::ZeroTrustWrite),
    ("Ringgate Admin", None, P::Admin),
];

/// Every permission group, in the order of the documentation.
pub static PERMISSION_GROUPS: LazyLock<Vec<Group>> = LazyLock::new(|| {
    GROUPS
        .into_iter()
        .map(|(name, id, permission)| Group {
            id: id.map_or_else(|| derived_id(name), str::to_owned),
            name,
            permission,
        })
        .collect()
});

fn derived_id(name: &str) -> String {
    let digest = Sha256::digest(format!("permission group {name}"));
    digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The group of an id, or of a name as people write it: `Edit` is `Write` (the two pages differ).
pub fn group(text: &str) -> Option<&'static Group> {
    let renamed = match text.strip_suffix(" Edit") {
        Some(front) => format!("{front} Write"),
        None => text.to_owned(),
    };
    PERMISSION_GROUPS
        .iter()
        .find(|group| group.id == text || group.name.eq_ignore_ascii_case(&renamed))
}

impl Permission {
    fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The permission's group.
    pub fn name(self) -> &'static str {
        GROUPS[self as usize].0
    }

    /// What allowing this allows.
    fn allows(self) -> u32 {
        let more = match self {
            P::Admin => return u32::MAX,
            P::GatewayWrite => P::GatewayRead.bit() | P::GatewayMetadataRead.bit(),
            P::GatewayRead => P::GatewayMetadataRead.bit(),
            P::WorkersAiRead => P::GatewayRun.bit(),
            P::WorkersAiWrite => P::WorkersAiRead.bit() | P::GatewayRun.bit(),
            P::SecretsStoreWrite => P::SecretsStoreRead.bit(),
            P::AccountTokensWrite => P::AccountTokensRead.bit(),
            P::UserTokensWrite => P::UserTokensRead.bit(),
            P::LogsWrite => P::LogsRead.bit(),
            P::ZeroTrustWrite => P::ZeroTrustRead.bit(),
            _ => 0,
        };
        self.bit() | more
    }

    /// What denying this denies: itself alone, so that a denied group takes nothing from another one's holder.
    fn denies(self) -> u32 {
        match self {
            P::Admin => u32::MAX,
            _ => self.bit(),
        }
    }
}

/// What the policies of one token come to. Deny beats allow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    account: Bits,
    /// Per gateway id, sorted.
    gateways: Vec<(Box<str>, Bits)>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bits {
    allow: u32,
    deny: u32,
}

impl Bits {
    fn add(&mut self, permission: Permission, allow: bool) {
        match allow {
            true => self.allow |= permission.allows(),
            false => self.deny |= permission.denies(),
        }
    }
}

/// Why a policy cannot be taken.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PolicyError {
    /// No such permission group.
    #[error("no permission group {0:?}; GET permission_groups lists them")]
    Group(String),
    /// A resource this instance does not have.
    #[error(
        "unknown resource {0:?}; use com.cloudflare.api.account.ACCOUNT, or com.cloudflare.api.account.ACCOUNT.ai-gateway.gateway.GATEWAY for one gateway"
    )]
    Resource(String),
    /// Not of the documented shape.
    #[error("{0}")]
    Shape(&'static str),
}

const ACCOUNT: &str = "com.cloudflare.api.account.";
const GATEWAY: &str = ".ai-gateway.gateway.";

impl Grants {
    /// Of a token's policies, as the API takes them.
    pub fn of_policies(policies: &Value, account: &str) -> Result<Self, PolicyError> {
        let mut grants = Self::default();
        let policies = policies
            .as_array()
            .ok_or(PolicyError::Shape("policies must be a list"))?;
        for policy in policies {
            grants.add_policy(policy, account)?;
        }
        grants.gateways.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(grants)
    }

    fn add_policy(&mut self, policy: &Value, account: &str) -> Result<(), PolicyError> {
        let allow = match policy["effect"].as_str() {
            Some("allow") => true,
            Some("deny") => false,
            _ => return Err(PolicyError::Shape("effect must be allow or deny")),
        };
        let groups = policy["permission_groups"].as_array();
        let groups = groups.ok_or(PolicyError::Shape("permission_groups must be a list"))?;
        let mut permissions = Vec::with_capacity(groups.len());
        for entry in groups {
            let id = entry["id"].as_str().unwrap_or_default();
            let found = group(id).ok_or_else(|| PolicyError::Group(id.to_owned()))?;
            permissions.push(found.permission);
        }
        let resources = policy["resources"].as_object();
        let resources = resources.ok_or(PolicyError::Shape("resources must be a map"))?;
        for (resource, value) in resources {
            self.add_resource(resource, value, account, allow, &permissions)?;
        }
        Ok(())
    }

    /// A value may itself be a map of narrower resources, which then stand for it.
    fn add_resource(
        &mut self,
        resource: &str,
        value: &Value,
        account: &str,
        allow: bool,
        permissions: &[Permission],
    ) -> Result<(), PolicyError> {
        if let Some(narrower) = value.as_object() {
            for (resource, value) in narrower {
                if value.is_object() {
                    return Err(PolicyError::Shape("resources may be nested one level deep"));
                }
                self.add_resource(resource, value, account, allow, permissions)?;
            }
            return Ok(());
        }
        let unknown = || PolicyError::Resource(resource.to_owned());
        let rest = resource.strip_prefix(ACCOUNT).ok_or_else(unknown)?;
        let (named, gateway) = match rest.split_once(GATEWAY) {
            Some((named, gateway)) => (named, Some(gateway)),
            None => (rest, None),
        };
        if named != "*" && named != account {
            return Err(unknown());
        }
        let bits = match gateway {
            None | Some("*") => &mut self.account,
            Some("") => return Err(unknown()),
            Some(gateway) => {
                let known = self.gateways.iter().position(|(id, _)| &**id == gateway);
                let index = known.unwrap_or_else(|| {
                    self.gateways.push((gateway.into(), Bits::default()));
                    self.gateways.len() - 1
                });
                &mut self.gateways[index].1
            }
        };
        for permission in permissions {
            bits.add(*permission, allow);
        }
        Ok(())
    }

    /// Whether `permission` is held, for one gateway or (`None`) for the whole account.
    pub fn permit(&self, permission: Permission, gateway: Option<&str>) -> bool {
        let own = gateway.and_then(|id| {
            let found = self
                .gateways
                .binary_search_by(|(known, _)| (**known).cmp(id));
            found.ok().map(|index| self.gateways[index].1)
        });
        let own = own.unwrap_or_default();
        let allow = self.account.allow | own.allow;
        let deny = self.account.deny | own.deny;
        allow & !deny & permission.bit() != 0
    }

    /// Whether `permission` is held for at least one gateway or the whole account.
    pub fn permit_somewhere(&self, permission: Permission) -> bool {
        self.permit(permission, None)
            || self
                .gateways
                .iter()
                .any(|(id, _)| self.permit(permission, Some(id)))
    }
}

/// Characters of a generated token.
pub const TOKEN_LENGTH: usize = 40;
const PREFIX: &[u8] = b"rg_";
const CHECK_LENGTH: usize = 6;
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";

/// A new token: `rg_`, 31 random characters (186 bits) and a checksum, so that other values are told from it without a
/// digest.
pub fn generate_token() -> Result<String, aws_lc_rs::error::Unspecified> {
    let mut random = [0; TOKEN_LENGTH - PREFIX.len() - CHECK_LENGTH];
    SystemRandom::new().fill(&mut random)?;
    let mut token = PREFIX.to_vec();
    token.extend(random.iter().map(|byte| ALPHABET[usize::from(byte & 63)]));
    let check = checksum(&token);
    token.extend_from_slice(&check);
    Ok(token.into_iter().map(char::from).collect())
}

/// Whether `value` has the form of a generated token, its checksum included.
pub fn has_token_form(value: &[u8]) -> bool {
    value.len() == TOKEN_LENGTH && value.starts_with(PREFIX) && {
        let (token, check) = value.split_at(TOKEN_LENGTH - CHECK_LENGTH);
        checksum(token) == check
    }
}

fn checksum(token: &[u8]) -> [u8; CHECK_LENGTH] {
    let sum = crc32fast::hash(token);
    std::array::from_fn(|index| ALPHABET[(sum >> (6 * index)) as usize & 63])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grants(policies: Value) -> Grants {
        Grants::of_policies(&policies, "acc").expect("policies")
    }

    fn policy(effect: &str, groups: &[&str], resource: &str) -> Value {
        let groups: Vec<Value> = groups
            .iter()
            .map(|name| json!({"id": group(name).expect("a group").id}))
            .collect();
        json!({"effect": effect, "permission_groups": groups, "resources": {resource: "*"}})
    }

    const ALL: &str = "com.cloudflare.api.account.acc";

    #[test]
    fn the_table_is_in_the_order_of_the_bits_and_its_ids_never_change() {
        for (index, (_, _, permission)) in GROUPS.into_iter().enumerate() {
            assert_eq!(permission as usize, index);
        }
        let id = |name| group(name).expect("a group").id.clone();
        assert_eq!(id("AI Gateway Run"), "644535f4ed854494a59cb289d634b257");
        assert_eq!(id("AI Gateway Edit"), id("AI Gateway Write"));
        assert_eq!(id("AI Gateway Read"), derived_id("AI Gateway Read"));
        let mut ids: Vec<_> = PERMISSION_GROUPS.iter().map(|group| &group.id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), GROUPS.len());
    }

    #[test]
    fn each_group_gives_what_it_says() {
        let write = grants(json!([policy("allow", &["AI Gateway Write"], ALL)]));
        assert!(write.permit(P::GatewayRead, None) && write.permit(P::GatewayWrite, Some("g")));
        assert!(!write.permit(P::GatewayRun, None) && !write.permit(P::Admin, None));
        let read = grants(json!([policy("allow", &["AI Gateway Read"], ALL)]));
        assert!(read.permit(P::GatewayMetadataRead, None) && !read.permit(P::GatewayWrite, None));
        let migrated = grants(json!([policy("allow", &["Workers AI Read"], ALL)]));
        assert!(migrated.permit(P::GatewayRun, Some("x")));
        let admin = grants(json!([policy("allow", &["Ringgate Admin"], ALL)]));
        for (_, _, permission) in GROUPS {
            assert!(admin.permit(permission, None) && admin.permit(permission, Some("g")));
        }
        assert!(!Grants::default().permit_somewhere(P::GatewayRun));
    }

    #[test]
    fn deny_beats_allow_and_gateways_are_kept_apart() {
        let one = format!("{ALL}.ai-gateway.gateway.one");
        let token = grants(json!([
            policy("allow", &["AI Gateway Run", "AI Gateway Read"], ALL),
            policy("deny", &["AI Gateway Run"], &one),
        ]));
        assert!(token.permit(P::GatewayRun, None) && token.permit(P::GatewayRun, Some("two")));
        assert!(
            !token.permit(P::GatewayRun, Some("one")) && token.permit(P::GatewayRead, Some("one"))
        );
        let virtual_key = grants(json!([policy("allow", &["AI Gateway Run"], &one)]));
        assert!(virtual_key.permit(P::GatewayRun, Some("one")));
        assert!(
            !virtual_key.permit(P::GatewayRun, Some("two"))
                && !virtual_key.permit(P::GatewayRun, None)
        );
        assert!(virtual_key.permit_somewhere(P::GatewayRun));
        let nested = json!([{"effect": "allow", "permission_groups": [{"id": group("AI Gateway Run").expect("a group").id}],
            "resources": {ALL: {one: "*"}}}]);
        assert_eq!(grants(nested), virtual_key);
    }

    #[test]
    fn what_a_policy_cannot_mean_is_refused() {
        let refused = |policies: Value| Grants::of_policies(&policies, "acc").expect_err("refused");
        let other = policy(
            "allow",
            &["AI Gateway Run"],
            "com.cloudflare.api.account.other",
        );
        assert!(matches!(refused(json!([other])), PolicyError::Resource(_)));
        let zone = policy(
            "allow",
            &["AI Gateway Run"],
            "com.cloudflare.api.account.zone.x",
        );
        assert!(matches!(refused(json!([zone])), PolicyError::Resource(_)));
        let unknown = json!([{"effect": "allow", "permission_groups": [{"id": "0"}], "resources": {ALL: "*"}}]);
        assert_eq!(refused(unknown), PolicyError::Group("0".to_owned()));
        assert!(matches!(refused(json!([{}])), PolicyError::Shape(_)));
        assert!(matches!(refused(json!({})), PolicyError::Shape(_)));
    }

    #[test]
    fn tokens_have_a_form_and_differ() {
        let (one, two) = (
            generate_token().expect("random"),
            generate_token().expect("random"),
        );
        assert_ne!(one, two);
        assert!(one.len() == TOKEN_LENGTH && one.starts_with("rg_"));
        assert!(has_token_form(one.as_bytes()));
        let mut changed = one.into_bytes();
        changed[10] = if changed[10] == b'A' { b'B' } else { b'A' };
        assert!(!has_token_form(&changed));
        assert!(!has_token_form(b"sk-0123456789012345678901234567890123456"));
    }
}
