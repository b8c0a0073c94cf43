//! Where log lines go: standard error, as text for people or JSON for machines.

use std::fmt;
use std::io::IsTerminal;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::{DefaultFields, JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::prelude::*;
use tracing_subscriber::registry::LookupSpan;

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for the process. A second call changes nothing, so that tests may each call it.
pub fn start(format: Format, level: Level) {
    // Libraries speak only when something is wrong.
    let filter = Targets::new().with_default(level.min(Level::WARN)).with_target("endcap", level);
    let registry = tracing_subscriber::registry().with(filter);
    let started = registry.with(layer(format, std::io::stderr().is_terminal(), std::io::stderr)).try_init();
    // Somebody was first: their lines are as good.
    drop(started);
}

/// Writes an event as one line, in colours where `ansi` says so and the format has any. Whatever stands in a value, as a
/// request, an answer or Redis brought it: it is in that line, and a terminal shows it and obeys nothing.
pub fn layer<S, W>(format: Format, ansi: bool, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        // The escapes around the fields are the colours.
        Format::Text => layer.with_ansi(ansi).fmt_fields(Escaped(DefaultFields::new())).boxed(),
        Format::Json => {
            let line = tracing_subscriber::fmt::format().json().flatten_event(true);
            layer.with_ansi(false).fmt_fields(JsonFields::new()).event_format(Escaped(line)).boxed()
        }
    }
}

/// Escapes what is more than text in all that is written by another format.
struct Escaped<F>(F);

impl<'w, F: for<'s> FormatFields<'s>> FormatFields<'w> for Escaped<F> {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        self.0.format_fields(Writer::new(&mut text), fields)?;
        escape(&text, &mut writer)
    }
}

impl<S, N, F> FormatEvent<S, N> for Escaped<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        self.0.format_event(ctx, Writer::new(&mut line), event)?;
        escape(line.trim_end_matches('\n'), &mut writer)?;
        writeln!(writer)
    }
}

/// Control characters, line ends of Unicode, and what turns the direction of writing, each as `\u` and four digits: so
/// they stand in a string of JSON too.
fn escape(text: &str, writer: &mut Writer<'_>) -> fmt::Result {
    let is_more_than_text = |char: char| {
        char.is_control()
            || matches!(char, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    for char in text.chars() {
        match is_more_than_text(char) {
            true => write!(writer, "\\u{:04x}", u32::from(char))?,
            false => writer.write_char(char)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: Format, log: impl Fn()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::registry().with(layer(format, false, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, log);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    const HOSTILE: &str =
        "a\"b\\\r\nINFO endcap: forged\t\0\u{7}\u{8}\u{1b}[2J\u{7f}\u{85}\u{9b}31m\u{2028}\u{202e}\u{2066}\u{fffd}";

    #[test]
    fn a_value_stays_in_its_line_whatever_it_is() {
        let error = io::Error::other(HOSTILE);
        for format in [Format::Text, Format::Json] {
            let logs: [&dyn Fn(); 6] = [
                &|| tracing::info!(value = HOSTILE, "said"),
                &|| tracing::info!(value = %HOSTILE, "said"),
                &|| tracing::info!(value = ?HOSTILE, "said"),
                &|| tracing::info!(%error, "said"),
                &|| tracing::info!(error = &error as &dyn std::error::Error, "said"),
                &|| tracing::info!("said {HOSTILE}"),
            ];
            for log in logs {
                let line = logged(format, log);
                let text = line.strip_suffix('\n').expect("a line ends");
                let is_plain =
                    |char: char| !char.is_control() && !('\u{2028}'..='\u{202e}').contains(&char) && char != '\u{2066}';
                assert!(text.chars().all(is_plain), "{format:?}: {text:?}");
                assert!(text.contains("forged"), "{format:?}: nothing is lost: {text}");
                if format == Format::Json {
                    let read: serde_json::Value = serde_json::from_str(text).unwrap();
                    let told: String = read.as_object().unwrap().values().filter_map(|value| value.as_str()).collect();
                    assert!(told.contains("said") && told.contains("forged"), "{text}");
                }
            }
        }
    }

    #[test]
    fn json_tells_the_very_value() {
        let line = logged(Format::Json, || tracing::info!(value = HOSTILE, "said"));
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["value"], HOSTILE);
    }

    #[test]
    fn a_terminal_has_its_colours() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::registry().with(layer(Format::Text, true, move || writer.clone()));
        tracing::subscriber::with_default(subscriber, || tracing::info!(value = %"a\u{1b}[2J\nb", "said"));
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(text.contains("\u{1b}[32m") && !text.contains("[2J\n") && !text.contains("\u{1b}[2J"), "{text:?}");
        assert_eq!(text.lines().count(), 1, "{text:?}");
    }
}
