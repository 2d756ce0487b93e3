//! The gateway tokens, found by their digests (spec: control plane 7, data plane 3.1).

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use ipnet::IpNet;
use sha2::{Digest, Sha256};

use super::Sharded;
use crate::access::{Grants, Permission, TOKEN_LENGTH, has_token_form};

/// A token, without its value.
#[derive(Debug)]
pub struct Token {
    /// 32 hexadecimal digits.
    pub id: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// SHA-256 of its value.
    pub digest: [u8; 32],
    /// Characters of its value, where it was not generated here.
    pub supplied_length: Option<usize>,
    /// Switched off by its owner.
    pub disabled: bool,
    /// Unix seconds from which on it is valid.
    pub not_before: Option<u64>,
    /// Unix seconds from which on it no longer is.
    pub expires_on: Option<u64>,
    /// Addresses it may be shown from; empty: any.
    pub addresses: Box<[IpNet]>,
    /// Addresses it may not be shown from.
    pub not_addresses: Box<[IpNet]>,
    /// What it may do.
    pub grants: Grants,
    /// Unix seconds at which it was last shown; 0: not since the start.
    pub last_used: AtomicU64,
}

/// Why a known token does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Switched off.
    Disabled,
    /// Not valid yet.
    NotYet,
    /// Not valid any more.
    Expired,
    /// Shown from an address it may not be shown from.
    Address,
}

impl Token {
    /// Whether it counts at `now` (Unix seconds) from `address`; notes that it was shown.
    pub fn admit(&self, now: u64, address: IpAddr) -> Result<(), Refusal> {
        if self.disabled {
            return Err(Refusal::Disabled);
        }
        if self.not_before.is_some_and(|from| now < from) {
            return Err(Refusal::NotYet);
        }
        if self.expires_on.is_some_and(|until| now >= until) {
            return Err(Refusal::Expired);
        }
        if !self.addresses.is_empty() || !self.not_addresses.is_empty() {
            let address = address.to_canonical();
            let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
            if within(&self.not_addresses) || !self.addresses.is_empty() && !within(&self.addresses)
            {
                return Err(Refusal::Address);
            }
        }
        // A token's line in memory is written once a second at most, so that threads do not contend for it.
        if self.last_used.load(Ordering::Relaxed) != now {
            self.last_used.store(now, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Whether it may do this, for one gateway or the whole account.
    pub fn may(&self, permission: Permission, gateway: Option<&str>) -> bool {
        self.grants.permit(permission, gateway)
    }
}

/// Every token of the instance.
#[derive(Clone, Default)]
pub struct Tokens {
    /// By the first eight bytes of the digest, which are as random as a hash.
    by_digest: Sharded<u64, Arc<Token>>,
    /// Digests by token id.
    by_id: Sharded<Arc<str>, Arc<Token>>,
    /// Lengths of the values that were supplied, sorted, and how many have each: other values are told apart without a digest.
    supplied_lengths: Arc<[(usize, usize)]>,
}

impl Tokens {
    /// The token of this value. Compares digests in constant time.
    pub fn find(&self, value: &[u8]) -> Option<&Arc<Token>> {
        if !has_token_form(value) && !self.has_supplied_length(value) {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(value).into();
        let token = self.by_digest.get(&key(&digest))?;
        verify_slices_are_equal(&token.digest, &digest).ok()?;
        Some(token)
    }

    /// Whether a value is a gateway token and so no provider's key: known ones, and those that have been.
    pub fn is_token(&self, value: &[u8]) -> bool {
        has_token_form(value) || self.has_supplied_length(value) && self.find(value).is_some()
    }

    fn has_supplied_length(&self, value: &[u8]) -> bool {
        let mut lengths = self.supplied_lengths.iter();
        lengths.any(|(length, _)| *length == value.len())
    }

    /// Bytes below which no value is a token: most values are told apart by this alone.
    pub fn shortest(&self) -> usize {
        let supplied = self.supplied_lengths.first();
        supplied.map_or(TOKEN_LENGTH, |(supplied, _)| TOKEN_LENGTH.min(*supplied))
    }

    /// The token of this id.
    pub fn by_id(&self, id: &str) -> Option<&Arc<Token>> {
        self.by_id.get(id)
    }

    /// Every token, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.by_id.iter().map(|(_, token)| token)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Sets or (`None`) removes the token of an id.
    pub fn set(&mut self, id: &str, token: Option<Arc<Token>>) {
        let id = token
            .as_ref()
            .map_or_else(|| id.into(), |token| token.id.clone());
        let before = self.by_id.set(id, token.clone());
        if let Some(before) = &before {
            self.by_digest.set(key(&before.digest), None);
        }
        if let Some(token) = &token {
            if let Some(before) = &before {
                let last = before.last_used.load(Ordering::Relaxed);
                token.last_used.fetch_max(last, Ordering::Relaxed);
            }
            self.by_digest.set(key(&token.digest), Some(token.clone()));
        }
        let length = |token: Option<Arc<Token>>| token.and_then(|token| token.supplied_length);
        let (gone, come) = (length(before), length(token));
        if gone != come {
            self.count_lengths(gone, come);
        }
    }

    /// Takes a supplied value of one length out of the count and one of another in.
    fn count_lengths(&mut self, gone: Option<usize>, come: Option<usize>) {
        let mut lengths = self.supplied_lengths.to_vec();
        if let Some(at) = gone.and_then(|gone| lengths.iter().position(|one| one.0 == gone)) {
            lengths[at].1 -= 1;
            if lengths[at].1 == 0 {
                lengths.remove(at);
            }
        }
        if let Some(come) = come {
            match lengths.binary_search_by_key(&come, |one| one.0) {
                Ok(at) => lengths[at].1 += 1,
                Err(at) => lengths.insert(at, (come, 1)),
            }
        }
        self.supplied_lengths = lengths.into();
    }
}

fn key(digest: &[u8; 32]) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|index| digest[index]))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::access::generate_token;

    /// A token of this value that may do what `grants` say.
    pub(crate) fn token(id: &str, value: &str, grants: Grants) -> Token {
        Token {
            id: id.into(),
            name: id.into(),
            digest: Sha256::digest(value).into(),
            supplied_length: (!has_token_form(value.as_bytes())).then_some(value.len()),
            disabled: false,
            not_before: None,
            expires_on: None,
            addresses: Box::default(),
            not_addresses: Box::default(),
            grants,
            last_used: AtomicU64::new(0),
        }
    }

    #[test]
    fn tokens_are_found_by_value_until_they_are_removed() {
        let generated = generate_token().expect("random");
        let mut tokens = Tokens::default();
        tokens.set("1", Some(token("1", &generated, Grants::default()).into()));
        tokens.set(
            "2",
            Some(token("2", "supplied-token", Grants::default()).into()),
        );
        let found = |tokens: &Tokens, value: &str| {
            tokens
                .find(value.as_bytes())
                .map(|token| token.id.to_string())
        };
        assert_eq!(found(&tokens, &generated).as_deref(), Some("1"));
        assert_eq!(found(&tokens, "supplied-token").as_deref(), Some("2"));
        assert_eq!(found(&tokens, "supplied-tokex"), None);
        assert_eq!(tokens.shortest(), "supplied-token".len());
        let rolled = generate_token().expect("random");
        tokens.set("1", Some(token("1", &rolled, Grants::default()).into()));
        assert_eq!(found(&tokens, &generated), None);
        assert!(tokens.is_token(generated.as_bytes()), "it has been one");
        assert_eq!(found(&tokens, &rolled).as_deref(), Some("1"));
        // Another of the same length keeps it known.
        let again = token("3", "supplied-tokeX", Grants::default());
        tokens.set("3", Some(again.into()));
        tokens.set("3", Some(token("3", "supplied", Grants::default()).into()));
        assert_eq!(&*tokens.supplied_lengths, [(8, 1), (14, 1)]);
        assert_eq!(found(&tokens, "supplied-token").as_deref(), Some("2"));
        assert_eq!(found(&tokens, "supplied").as_deref(), Some("3"));
        tokens.set("3", None);
        tokens.set("1", None);
        tokens.set("2", None);
        assert!(tokens.supplied_lengths.is_empty());
        assert!(tokens.is_empty() && found(&tokens, "supplied-token").is_none());
        assert_eq!(tokens.shortest(), TOKEN_LENGTH);
        assert!(!tokens.is_token(b"supplied-token"));
    }

    #[test]
    fn conditions_are_kept() {
        let mut token = token("1", "x", Grants::default());
        token.not_before = Some(100);
        token.expires_on = Some(200);
        token.addresses = ["10.0.0.0/8".parse().expect("a net")].into();
        token.not_addresses = ["10.1.0.0/16".parse().expect("a net")].into();
        let admit = |now, address: &str| token.admit(now, address.parse().expect("an address"));
        assert_eq!(admit(99, "10.0.0.1"), Err(Refusal::NotYet));
        assert_eq!(admit(100, "::ffff:10.0.0.1"), Ok(()));
        assert_eq!(admit(200, "10.0.0.1"), Err(Refusal::Expired));
        assert_eq!(admit(100, "10.1.0.1"), Err(Refusal::Address));
        assert_eq!(admit(100, "192.0.2.1"), Err(Refusal::Address));
        assert_eq!(token.last_used.load(Ordering::Relaxed), 100);
        let off = super::Token {
            disabled: true,
            ..token
        };
        assert_eq!(off.admit(100, [10, 0, 0, 1].into()), Err(Refusal::Disabled));
    }
}
