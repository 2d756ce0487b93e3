//! The test of a conditional element. Saved once, evaluated for each request without allocating.

use std::cmp::Ordering;

use serde_json::Value;

use super::report::{Report, shown};
use crate::limits::{ROUTE_CONDITION_DEPTH_MAX, ROUTE_CONDITION_SIZE_MAX, ROUTE_TEXT_MAX};

/// A test over the fields of a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// All of them hold; so it does where there are none.
    All(Box<[Self]>),
    /// One of them holds.
    Any(Box<[Self]>),
    /// It does not hold.
    Not(Box<Self>),
    /// One field is tested.
    Test(Field, Test),
}

/// What a field is tested for.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// `$eq`.
    Equal(Scalar),
    /// `$ne`.
    NotEqual(Scalar),
    /// `$in`.
    In(Box<[Scalar]>),
    /// `$nin`.
    NotIn(Box<[Scalar]>),
    /// `$gt`.
    Greater(Scalar),
    /// `$gte`.
    AtLeast(Scalar),
    /// `$lt`.
    Less(Scalar),
    /// `$lte`.
    AtMost(Scalar),
    /// `$exists`.
    Exists(bool),
}

/// Where a value stands in a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Field {
    /// `metadata.{key}`; the key may hold dots.
    Metadata(Box<str>),
    /// `body.{path}`: the names on the way; a number is a place in an array.
    Body(Box<[Box<str>]>),
    /// `headers.{name}`, in lower case.
    Header(Box<str>),
}

/// A value that a condition compares with.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(Box<str>),
}

/// A value that a request has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldValue<'v> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text; every header is one.
    Text(&'v str),
    /// An array or an object: it exists, and equals nothing.
    Nested,
}

/// A number of JSON; whole numbers are compared exactly.
#[derive(Debug, Clone, Copy)]
pub enum Number {
    /// Without a fraction.
    Whole(i128),
    /// With one; finite.
    Fraction(f64),
}

const OPERATORS: &str = "$eq, $ne, $in, $nin, $gt, $gte, $lt, $lte, $exists, $not, and $and, $or, $not around whole conditions";

impl Condition {
    /// Whether it holds for a request whose fields `lookup` finds; `None` where the request lacks the field.
    pub fn matches<'v>(&self, lookup: &impl Fn(&Field) -> Option<FieldValue<'v>>) -> bool {
        match self {
            Self::All(conditions) => conditions.iter().all(|each| each.matches(lookup)),
            Self::Any(conditions) => conditions.iter().any(|each| each.matches(lookup)),
            Self::Not(condition) => !condition.matches(lookup),
            Self::Test(field, test) => test.passes(lookup(field)),
        }
    }

    /// Shows each field that it may look at, as often as it is named.
    pub fn visit_fields<'c>(&'c self, visit: &mut impl FnMut(&'c Field)) {
        match self {
            Self::All(conditions) | Self::Any(conditions) => {
                conditions.iter().for_each(|each| each.visit_fields(visit));
            }
            Self::Not(condition) => condition.visit_fields(visit),
            Self::Test(field, _) => visit(field),
        }
    }

    /// Reads a condition; what is wrong goes into `report`.
    pub(super) fn parse(value: &Value, report: &mut Report) -> Option<Self> {
        let left = Some(ROUTE_CONDITION_SIZE_MAX);
        Parser { report, left }.condition(value, 0)
    }

    fn all(mut conditions: Vec<Self>) -> Self {
        match conditions.len() {
            1 => conditions.remove(0),
            _ => Self::All(conditions.into()),
        }
    }
}

impl Test {
    fn passes(&self, value: Option<FieldValue<'_>>) -> bool {
        let Some(value) = value else {
            return matches!(
                self,
                Self::NotEqual(_) | Self::NotIn(_) | Self::Exists(false)
            );
        };
        let is_one_of = |list: &[Scalar]| list.iter().any(|scalar| scalar.equals(value));
        match self {
            Self::Equal(scalar) => scalar.equals(value),
            Self::NotEqual(scalar) => !scalar.equals(value),
            Self::In(list) => is_one_of(list),
            Self::NotIn(list) => !is_one_of(list),
            Self::Greater(scalar) => scalar.order_of(value).is_some_and(Ordering::is_gt),
            Self::AtLeast(scalar) => scalar.order_of(value).is_some_and(Ordering::is_ge),
            Self::Less(scalar) => scalar.order_of(value).is_some_and(Ordering::is_lt),
            Self::AtMost(scalar) => scalar.order_of(value).is_some_and(Ordering::is_le),
            Self::Exists(wanted) => *wanted,
        }
    }
}

impl Scalar {
    /// Types must agree, but a number equals the text that writes it: what comes by header is text.
    fn equals(&self, value: FieldValue<'_>) -> bool {
        match (self, value) {
            (Self::Null, FieldValue::Null) => true,
            (Self::Bool(own), FieldValue::Bool(value)) => *own == value,
            (Self::Number(own), FieldValue::Number(value)) => *own == value,
            (Self::Text(own), FieldValue::Text(value)) => **own == *value,
            (Self::Number(own), FieldValue::Text(text)) => Number::of_text(text) == Some(*own),
            (Self::Text(text), FieldValue::Number(value)) => Number::of_text(text) == Some(value),
            _ => false,
        }
    }

    /// How `value` stands to this one; `None` where the two have no order.
    fn order_of(&self, value: FieldValue<'_>) -> Option<Ordering> {
        match (self, value) {
            (Self::Number(own), FieldValue::Number(value)) => value.partial_cmp(own),
            (Self::Text(own), FieldValue::Text(value)) => Some((*value).cmp(own)),
            (Self::Number(own), FieldValue::Text(text)) => Number::of_text(text)?.partial_cmp(own),
            (Self::Text(text), FieldValue::Number(value)) => {
                value.partial_cmp(&Number::of_text(text)?)
            }
            _ => None,
        }
    }
}

impl Field {
    /// Reads a path such as `metadata.plan`.
    pub fn parse(path: &str) -> Result<Self, String> {
        if path.len() > ROUTE_TEXT_MAX {
            return Err(format!("a field's path is at most {ROUTE_TEXT_MAX} bytes"));
        }
        let unknown =
            || format!("{path:?} is no field: write metadata.KEY, body.PATH or headers.NAME");
        let (room, rest) = path.split_once('.').ok_or_else(unknown)?;
        match room {
            "metadata" if !rest.is_empty() => Ok(Self::Metadata(rest.into())),
            "body" if rest.split('.').all(|name| !name.is_empty()) => {
                Ok(Self::Body(rest.split('.').map(Box::from).collect()))
            }
            "headers" if is_token(rest) => Ok(Self::Header(rest.to_ascii_lowercase().into())),
            _ => Err(unknown()),
        }
    }
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Metadata(key) => write!(f, "metadata.{key}"),
            Self::Body(names) => write!(f, "body.{}", names.join(".")),
            Self::Header(name) => write!(f, "headers.{name}"),
        }
    }
}

/// A header's name (RFC 9110 section 5.6.2).
fn is_token(name: &str) -> bool {
    let is_token_byte =
        |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token_byte)
}

impl<'v> FieldValue<'v> {
    /// What stands in a JSON document below these names.
    pub fn find(document: &'v Value, names: &[Box<str>]) -> Option<Self> {
        let step = |value: &'v Value, name: &str| match value {
            Value::Object(members) => members.get(name),
            Value::Array(values) => values.get(name.parse::<usize>().ok()?),
            _ => None,
        };
        names
            .iter()
            .try_fold(document, |value, name| step(value, name))
            .map(Self::from)
    }
}

impl<'v> From<&'v Value> for FieldValue<'v> {
    fn from(value: &'v Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) => Self::Number(Number::from(number)),
            Value::String(text) => Self::Text(text),
            Value::Array(_) | Value::Object(_) => Self::Nested,
        }
    }
}

impl Number {
    /// A decimal as JSON writes it, without an exponent: `-12`, `0.5`.
    pub fn of_text(text: &str) -> Option<Self> {
        const DIGITS_MAX: usize = 64;
        let digits = text.strip_prefix('-').unwrap_or(text);
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (digits, None),
        };
        let are_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        let leads_with_zero = whole.len() > 1 && whole.starts_with('0');
        if text.len() > DIGITS_MAX
            || leads_with_zero
            || !are_digits(whole)
            || !fraction.is_none_or(are_digits)
        {
            return None;
        }
        match text.parse() {
            Ok(whole) => Some(Self::Whole(whole)),
            Err(_) => text.parse().ok().map(Self::Fraction),
        }
    }

    #[allow(clippy::cast_precision_loss)]
    fn rounded(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Fraction(fraction) => fraction,
        }
    }
}

impl From<&serde_json::Number> for Number {
    fn from(number: &serde_json::Number) -> Self {
        match (number.as_i128(), number.as_f64()) {
            (Some(whole), _) => Self::Whole(whole),
            (None, fraction) => Self::Fraction(fraction.unwrap_or_default()),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(one), Self::Whole(other)) => Some(one.cmp(other)),
            _ => self.rounded().partial_cmp(&other.rounded()),
        }
    }
}

struct Parser<'r> {
    report: &'r mut Report,
    /// Operators and values still allowed; `None` once there were too many, which is told once.
    left: Option<usize>,
}

impl Parser<'_> {
    fn condition(&mut self, value: &Value, depth: usize) -> Option<Condition> {
        let Some(members) = value.as_object() else {
            return self.report.wrong("a condition is an object");
        };
        if depth >= ROUTE_CONDITION_DEPTH_MAX {
            let message = format!("conditions nest at most {ROUTE_CONDITION_DEPTH_MAX} deep");
            return self.report.wrong(message);
        }
        let parse = |(name, operand): (&String, &Value)| {
            self.report.enter(name);
            let parsed = match name.as_str() {
                "$and" => self
                    .conditions(operand, depth + 1)
                    .map(|list| Condition::All(list.into())),
                "$or" => self
                    .conditions(operand, depth + 1)
                    .map(|list| Condition::Any(list.into())),
                "$not" => self
                    .condition(operand, depth + 1)
                    .map(|negated| Condition::Not(negated.into())),
                name if name.starts_with('$') => self.unknown_operator(name),
                path => self.field(path, operand, depth + 1),
            };
            self.report.leave();
            parsed
        };
        every(members.iter().map(parse)).map(Condition::all)
    }

    fn conditions(&mut self, operand: &Value, depth: usize) -> Option<Vec<Condition>> {
        let Some(list) = operand.as_array().filter(|list| !list.is_empty()) else {
            return self.report.wrong("must be an array of conditions");
        };
        let parse = |(at, value): (usize, &Value)| {
            self.take_one()?;
            self.report.enter(&at.to_string());
            let parsed = self.condition(value, depth);
            self.report.leave();
            parsed
        };
        every(list.iter().enumerate().map(parse))
    }

    fn field(&mut self, path: &str, operand: &Value, depth: usize) -> Option<Condition> {
        let field = match Field::parse(path) {
            Ok(field) => field,
            Err(message) => return self.report.wrong(message),
        };
        self.tests(&field, operand, depth)
    }

    /// Operators in an object, ANDed, or a bare value.
    fn tests(&mut self, field: &Field, operand: &Value, depth: usize) -> Option<Condition> {
        let test = |test| Condition::Test(field.clone(), test);
        let Some(operators) = operand.as_object() else {
            return self.scalar(operand).map(|value| test(Test::Equal(value)));
        };
        if operators.is_empty() || depth >= ROUTE_CONDITION_DEPTH_MAX {
            return self.report.wrong(format!(
                "must hold operators, at most {ROUTE_CONDITION_DEPTH_MAX} deep: {OPERATORS}"
            ));
        }
        let parse = |(name, operand): (&String, &Value)| {
            self.report.enter(name);
            let parsed = match name.as_str() {
                "$eq" => self.scalar(operand).map(Test::Equal).map(test),
                "$ne" => self.scalar(operand).map(Test::NotEqual).map(test),
                "$in" => self.scalars(operand).map(Test::In).map(test),
                "$nin" => self.scalars(operand).map(Test::NotIn).map(test),
                "$gt" => self.ordered(operand).map(Test::Greater).map(test),
                "$gte" => self.ordered(operand).map(Test::AtLeast).map(test),
                "$lt" => self.ordered(operand).map(Test::Less).map(test),
                "$lte" => self.ordered(operand).map(Test::AtMost).map(test),
                "$exists" => self.exists(operand).map(test),
                "$not" => self
                    .tests(field, operand, depth + 1)
                    .map(|negated| Condition::Not(negated.into())),
                name => self.unknown_operator(name),
            };
            self.report.leave();
            parsed
        };
        every(operators.iter().map(parse)).map(Condition::all)
    }

    fn scalars(&mut self, operand: &Value) -> Option<Box<[Scalar]>> {
        let Some(list) = operand.as_array() else {
            return self.report.wrong("must be an array of values");
        };
        let parse = |(at, value): (usize, &Value)| {
            self.report.enter(&at.to_string());
            let parsed = self.scalar(value);
            self.report.leave();
            parsed
        };
        every(list.iter().enumerate().map(parse)).map(Vec::into_boxed_slice)
    }

    fn scalar(&mut self, value: &Value) -> Option<Scalar> {
        self.take_one()?;
        match value {
            Value::Null => Some(Scalar::Null),
            Value::Bool(value) => Some(Scalar::Bool(*value)),
            Value::Number(number) => Some(Scalar::Number(number.into())),
            Value::String(text) if text.len() > ROUTE_TEXT_MAX => self.report.wrong(format!(
                "a text compared with is at most {ROUTE_TEXT_MAX} bytes"
            )),
            Value::String(text) => Some(Scalar::Text(text.as_str().into())),
            Value::Array(_) | Value::Object(_) => self.report.wrong(
                "must be a text, a number, a boolean or null; lists are compared with $in or $nin",
            ),
        }
    }

    fn ordered(&mut self, operand: &Value) -> Option<Scalar> {
        match self.scalar(operand)? {
            Scalar::Null | Scalar::Bool(_) => self.report.wrong("must be a number or a text"),
            ordered => Some(ordered),
        }
    }

    fn exists(&mut self, operand: &Value) -> Option<Test> {
        self.take_one()?;
        match operand {
            Value::Bool(wanted) => Some(Test::Exists(*wanted)),
            _ => self.report.wrong("must be true or false"),
        }
    }

    fn unknown_operator<T>(&mut self, name: &str) -> Option<T> {
        let message = format!("unknown operator {:?}; there are {OPERATORS}", shown(name));
        self.report.wrong(message)
    }

    fn take_one(&mut self) -> Option<()> {
        let left = self.left?;
        self.left = left.checked_sub(1);
        if self.left.is_none() {
            return self.report.wrong(format!(
                "a condition has at most {ROUTE_CONDITION_SIZE_MAX} operators and values"
            ));
        }
        Some(())
    }
}

/// All of them or, after looking at each for its own errors, none.
fn every<T>(parsed: impl Iterator<Item = Option<T>>) -> Option<Vec<T>> {
    let (mut found, mut sound) = (Vec::new(), true);
    for item in parsed {
        sound &= item.is_some();
        found.extend(item);
    }
    sound.then_some(found)
}
