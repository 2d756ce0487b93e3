//! A query taken apart: fragments spread, variables in their places, directives obeyed.

use std::collections::HashMap;

use graphql_parser::query::{
    Definition, Directive, FragmentDefinition, OperationDefinition, Selection, SelectionSet, Value,
    VariableDefinition, parse_query,
};
use serde_json::{Map, Value as Json};

use crate::limits::{GRAPHQL_DEPTH_MAX, GRAPHQL_FIELDS_MAX};

/// A field that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Under which key it is answered: its alias or its name.
    pub key: String,
    pub name: String,
    pub arguments: Map<String, Json>,
    pub children: Vec<Node>,
}

/// Reads a query of one operation, or the one that is named.
pub(super) fn read(
    text: &str,
    operation: Option<&str>,
    variables: &Map<String, Json>,
) -> Result<Vec<Node>, String> {
    if nesting(text) > GRAPHQL_DEPTH_MAX {
        return Err(format!("the query nests deeper than {GRAPHQL_DEPTH_MAX}"));
    }
    let parsed = parse_query::<String>(text);
    let document = parsed.map_err(|error| error.to_string().replace('\n', " "))?;
    let mut fragments = HashMap::new();
    let mut operations = Vec::new();
    for definition in &document.definitions {
        match definition {
            Definition::Fragment(fragment) => {
                fragments.insert(fragment.name.as_str(), fragment);
            }
            Definition::Operation(found) => operations.push(found),
        }
    }
    let named = |found: &&&OperationDefinition<'_, String>| match found {
        OperationDefinition::Query(query) => query.name.as_deref() == operation,
        _ => false,
    };
    let chosen = match operation {
        Some(name) => operations
            .iter()
            .find(named)
            .ok_or_else(|| format!("there is no query named {name:?}"))?,
        None if operations.len() == 1 => &operations[0],
        None => return Err("one query is expected, or operationName to say which".to_owned()),
    };
    let (selections, defined): (_, &[VariableDefinition<'_, String>]) = match chosen {
        OperationDefinition::SelectionSet(selections) => (selections, &[]),
        OperationDefinition::Query(query) => (&query.selection_set, &query.variable_definitions),
        OperationDefinition::Mutation(_) | OperationDefinition::Subscription(_) => {
            return Err("there are queries only".to_owned());
        }
    };
    let mut reader = Reader {
        fragments,
        variables: variables.clone(),
        fields: 0,
    };
    for variable in defined {
        if !reader.variables.contains_key(&variable.name)
            && let Some(default) = &variable.default_value
        {
            let value = reader.value(default);
            reader.variables.insert(variable.name.clone(), value);
        }
    }
    reader.nodes(selections, 0)
}

/// How deep brackets nest, outside of texts: the parser recurses.
fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_text, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'{' | b'(' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b')' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

struct Reader<'a> {
    fragments: HashMap<&'a str, &'a FragmentDefinition<'a, String>>,
    variables: Map<String, Json>,
    /// Fields so far: fragments within fragments multiply.
    fields: usize,
}

impl Reader<'_> {
    fn nodes(
        &mut self,
        selections: &SelectionSet<'_, String>,
        depth: usize,
    ) -> Result<Vec<Node>, String> {
        let mut nodes = Vec::new();
        self.collect(selections, depth, &mut nodes)?;
        Ok(nodes)
    }

    fn collect(
        &mut self,
        selections: &SelectionSet<'_, String>,
        depth: usize,
        nodes: &mut Vec<Node>,
    ) -> Result<(), String> {
        if depth > GRAPHQL_DEPTH_MAX {
            return Err(format!("the query nests deeper than {GRAPHQL_DEPTH_MAX}"));
        }
        for selection in &selections.items {
            self.fields += 1;
            if self.fields > GRAPHQL_FIELDS_MAX {
                return Err(format!(
                    "more than {GRAPHQL_FIELDS_MAX} fields are asked for"
                ));
            }
            match selection {
                Selection::Field(field) => {
                    if !self.includes(&field.directives)? {
                        continue;
                    }
                    let arguments = field.arguments.iter();
                    let node = Node {
                        key: field.alias.as_ref().unwrap_or(&field.name).clone(),
                        name: field.name.clone(),
                        arguments: arguments
                            .map(|(name, value)| (name.clone(), self.value(value)))
                            .collect(),
                        children: self.nodes(&field.selection_set, depth + 1)?,
                    };
                    add(nodes, node)?;
                }
                Selection::InlineFragment(fragment) => {
                    if self.includes(&fragment.directives)? {
                        self.collect(&fragment.selection_set, depth + 1, nodes)?;
                    }
                }
                Selection::FragmentSpread(spread) => {
                    let name = spread.fragment_name.as_str();
                    let fragment = self.fragments.get(name).copied();
                    let fragment =
                        fragment.ok_or_else(|| format!("there is no fragment {name:?}"))?;
                    if self.includes(&spread.directives)? {
                        self.collect(&fragment.selection_set, depth + 1, nodes)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn includes(&self, directives: &[Directive<'_, String>]) -> Result<bool, String> {
        for directive in directives {
            let given = directive.arguments.iter().find(|(name, _)| name == "if");
            let given = given.and_then(|(_, value)| self.value(value).as_bool());
            let name = directive.name.as_str();
            let wanted = match name {
                "include" => true,
                "skip" => false,
                _ => return Err(format!("there is no directive @{name}")),
            };
            match given {
                None => return Err(format!("@{name} needs if, true or false")),
                Some(given) if given != wanted => return Ok(false),
                Some(_) => {}
            }
        }
        Ok(true)
    }

    fn value(&self, value: &Value<'_, String>) -> Json {
        match value {
            Value::Variable(name) => self.variables.get(name).cloned().unwrap_or_default(),
            Value::Int(number) => number.as_i64().into(),
            Value::Float(number) => (*number).into(),
            Value::String(text) | Value::Enum(text) => text.clone().into(),
            Value::Boolean(flag) => (*flag).into(),
            Value::Null => Json::Null,
            Value::List(values) => values.iter().map(|value| self.value(value)).collect(),
            Value::Object(members) => members
                .iter()
                .map(|(name, value)| (name.clone(), self.value(value)))
                .collect(),
        }
    }
}

/// Adds a field; one that is there already is asked for more (GraphQL, section 5.3.2).
fn add(nodes: &mut Vec<Node>, node: Node) -> Result<(), String> {
    let Some(there) = nodes.iter_mut().find(|there| there.key == node.key) else {
        nodes.push(node);
        return Ok(());
    };
    if there.name != node.name || there.arguments != node.arguments {
        return Err(format!(
            "{:?} is asked for in two ways; use an alias",
            node.key
        ));
    }
    for child in node.children {
        add(&mut there.children, child)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(nodes: &[Node]) -> String {
        let node = |node: &Node| match node.children.is_empty() {
            true => format!("{}:{}", node.key, node.name),
            false => format!("{}:{}({})", node.key, node.name, told(&node.children)),
        };
        nodes.iter().map(node).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn fragments_and_variables_come_into_their_places() {
        let variables = json!({"who": "acc", "no": false});
        let variables = variables.as_object().expect("an object");
        let query = r#"
            query Q($who: String!, $limit: Int = 7, $no: Boolean!) {
                viewer { a: accounts(filter: {accountTag: $who}) { ...F ... on X { sum { cost } } gone @include(if: $no) } }
            }
            query Other { viewer { b } }
            fragment F on X { sum { tokens(limit: $limit, orderBy: [count_DESC]) } }
        "#;
        let nodes = read(query, Some("Q"), variables).expect("read");
        assert_eq!(
            told(&nodes),
            "viewer:viewer(a:accounts(sum:sum(tokens:tokens cost:cost)))"
        );
        let accounts = &nodes[0].children[0];
        assert_eq!(accounts.arguments["filter"], json!({"accountTag": "acc"}));
        let tokens = &accounts.children[0].children[0];
        assert_eq!(
            json!(tokens.arguments),
            json!({"limit": 7, "orderBy": ["count_DESC"]})
        );
    }

    #[test]
    fn what_cannot_be_answered_says_why() {
        let none = Map::new();
        let fails = |query: &str| read(query, None, &none).expect_err(query);
        assert!(fails("mutation { x }").contains("queries only"));
        assert!(fails("query A { x } query B { x }").contains("operationName"));
        assert!(fails("{ a: x a: y }").contains("two ways"));
        assert!(fails("{ ...F }").contains("no fragment"));
        assert!(fails("{ x @deprecated }").contains("@deprecated"));
        assert!(fails("{ x ").contains("query parse error"));
        assert!(fails(&"{ x ".repeat(1000)).contains("deeper"));
        assert!(fails(&format!("{{ x(a: {}1 }}", "[".repeat(1000))).contains("deeper"));
        let spread = "{ ...F } fragment F on X { a { ...F } }";
        assert!(fails(spread).contains("deeper"));
        let mut bomb = "{ ...F0 }".to_owned();
        for at in 0..20 {
            let next = at + 1;
            bomb.push_str(&format!(
                " fragment F{at} on X {{ a{at}: x ...F{next} b{at}: x ...F{next} }}"
            ));
        }
        bomb.push_str(" fragment F20 on X { x }");
        assert!(fails(&bomb).contains("fields"));
    }
}
