/*!
Text form of Protocol Buffers, as Triton reads its `config.pbtxt`: fields in the order given, messages
indented by two spaces, strings in double quotes.
*/

use std::fmt::Write as _;

/// A value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field {
    /// A string of any characters.
    Text(String),
    /// A whole number.
    Number(i64),
    /// A value of an enumeration, or `true` and `false`.
    Word(&'static str),
    /// A message of its own.
    Message(Message),
}

/// Fields by name, in order; one that is repeated stands there as often as it has values.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Message(Vec<(&'static str, Field)>);

impl Message {
    /// The message with a field more.
    pub fn with(mut self, name: &'static str, value: impl Into<Field>) -> Message {
        self.0.push((name, value.into()));
        self
    }

    /// The message with a field for each of the values.
    pub fn with_all<V: Into<Field>>(
        mut self,
        name: &'static str,
        values: impl IntoIterator<Item = V>,
    ) -> Message {
        let fields = values.into_iter().map(|value| (name, value.into()));
        self.0.extend(fields);
        self
    }

    /// The message with an entry of a map from string to `{string_value}`, as Triton's parameters are.
    pub fn parameter(self, key: &str, value: impl Into<String>) -> Message {
        let value = Message::default().with("string_value", value.into());
        let entry = Message::default().with("key", key).with("value", value);
        self.with("parameters", entry)
    }

    /// The message as a file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0);
        text
    }

    fn write(&self, text: &mut String, depth: usize) {
        for (name, value) in &self.0 {
            let _ = write!(text, "{:1$}{name}", "", 2 * depth);
            match value {
                Field::Text(value) => {
                    text.push_str(": ");
                    quoted(text, value);
                }
                Field::Number(value) => {
                    let _ = write!(text, ": {value}");
                }
                Field::Word(value) => {
                    let _ = write!(text, ": {value}");
                }
                Field::Message(Message(fields)) if fields.is_empty() => text.push_str(" {}"),
                Field::Message(message) => {
                    text.push_str(" {\n");
                    message.write(text, depth + 1);
                    let _ = write!(text, "{:1$}}}", "", 2 * depth);
                }
            }
            text.push('\n');
        }
    }
}

/// Appends a string literal. Control characters are written in octal, of three digits, so that a digit behind
/// one is no part of it.
fn quoted(text: &mut String, value: &str) {
    text.push('"');
    for c in value.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\0'..='\x1f' | '\x7f' => {
                let _ = write!(text, "\\{:03o}", u32::from(c));
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

impl From<&str> for Field {
    fn from(value: &str) -> Field {
        Field::Text(value.to_string())
    }
}

impl From<String> for Field {
    fn from(value: String) -> Field {
        Field::Text(value)
    }
}

impl From<i64> for Field {
    fn from(value: i64) -> Field {
        Field::Number(value)
    }
}

impl From<Message> for Field {
    fn from(value: Message) -> Field {
        Field::Message(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    /// `google.protobuf.text_format.Parse` of this text gives back the strings; protobuf 6.33 for Python.
    #[test]
    fn a_message_is_written_as_protobuf_reads_it() {
        let group = Message::default()
            .with("count", 2)
            .with("kind", Field::Word("KIND_CPU"));
        let message = Message::default()
            .with("name", "a \"b\" \\c\n\u{1}7 é\t\u{7f}")
            .with_all("dims", [-1_i64, 3])
            .with("dynamic_batching", Message::default())
            .with("instance_group", group)
            .parameter("threshold_0", "0.8");
        let wanted = r#"name: "a \"b\" \\c\n\0017 é\011\177"
dims: -1
dims: 3
dynamic_batching {}
instance_group {
  count: 2
  kind: KIND_CPU
}
parameters {
  key: "threshold_0"
  value {
    string_value: "0.8"
  }
}
"#;
        assert_eq!(message.text(), wanted);
    }
}
