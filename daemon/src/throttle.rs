//! The same line again and again: logged once, then counted, and the count told once a period.
//!
//! A node that is dead is dialled many times a second, and each failure is a warning, of ours or of the
//! engine. Warnings and errors are told apart by the place in the code that they come from and by what
//! they say, without the figures in it; so are notes of what strangers do, those with a field `remote`.
//! The first of its kind is logged at once. What comes after it is counted, and the count is a line of
//! its own when the period ends. A kind that has not come for a whole period is forgotten: when it comes
//! again, that is news.
//!
//! What is remembered is bounded: by the places in the code, and by so many kinds at each of them. What
//! is beyond shares one kind.
//!
//! Not here: where lines go (`logging`).

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};
use std::mem;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Filter};

/// Target of the lines that say how often another one came.
const OWN: &str = "logd::repeated";
/// The field that says where a stranger is.
const REMOTE: &str = "remote";
/// Kinds of lines that are told apart at one place in the code.
const KINDS_MAX: usize = 16;
/// Bytes of a line that count.
const TEXT_BYTES_MAX: usize = 300;

/// The filter, and a handle to it; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Throttle(Arc<Mutex<HashMap<Identifier, Place>>>);

/// The lines of one place in the code, by what they say without figures.
type Place = HashMap<String, Kind>;

/// A line that was logged.
#[derive(Debug)]
struct Kind {
    level: Level,
    target: &'static str,
    /// As it was the first time.
    text: String,
    /// How often it came since it was last spoken of.
    again: u64,
}

impl Throttle {
    /// Whether a line is to be logged now.
    fn is_news(&self, meta: &Metadata<'static>, said: LogLine) -> bool {
        let mut places = self.lock();
        let place = places.entry(meta.callsite()).or_default();
        let key = match place.len() {
            // Whatever else is said there is one kind more.
            KINDS_MAX.. if !place.contains_key(&said.kind) => String::new(),
            _ => said.kind,
        };
        if let Some(kind) = place.get_mut(&key) {
            kind.again += 1;
            return false;
        }
        let (level, target) = (*meta.level(), meta.target());
        place.insert(key, Kind { level, target, text: said.text, again: 0 });
        true
    }

    /// Ends a period: tells what came again in it, and forgets what did not.
    pub(crate) fn tell(&self) {
        let mut again = Vec::new();
        self.lock().retain(|_, place| {
            place.retain(|_, kind| {
                let count = mem::take(&mut kind.again);
                if count > 0 {
                    again.push((kind.level, kind.target, kind.text.clone(), count));
                }
                count > 0
            });
            !place.is_empty()
        });
        // Without the lock: these lines pass by here, too.
        for (level, of, text, count) in again {
            if level == Level::ERROR {
                tracing::error!(target: OWN, of, count, "again ({count}x): {text}");
            } else if level == Level::WARN {
                tracing::warn!(target: OWN, of, count, "again ({count}x): {text}");
            } else {
                tracing::info!(target: OWN, of, count, "again ({count}x): {text}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Identifier, Place>> {
        // Every change is a plain insertion.
        self.0.lock()
    }
}

impl<S: Subscriber> Filter<S> for Throttle {
    fn enabled(&self, _meta: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        let meta = event.metadata();
        let loud = *meta.level() <= Level::WARN;
        let of_strangers = *meta.level() == Level::INFO && meta.fields().field(REMOTE).is_some();
        if meta.target() == OWN || !(loud || of_strangers) {
            return true;
        }
        if crate::raft::is_expected(meta) {
            return false;
        }
        let mut said = LogLine::default();
        event.record(&mut said);
        self.is_news(meta, said)
    }
}

/// What a line says.
#[derive(Default)]
struct LogLine {
    /// For people.
    text: String,
    /// The same without figures.
    kind: String,
}

impl LogLine {
    fn add(&mut self, field: &Field, value: &str) {
        let room = TEXT_BYTES_MAX.saturating_sub(self.text.len());
        let end = value.floor_char_boundary(room);
        let value = value.get(..end).unwrap_or_default();
        // The message is what the others stand behind.
        let name = field.name();
        let equals = if name == "message" { String::new() } else { format!("{name}=") };
        // A stranger's port is another one each time, its address is not.
        if name == REMOTE {
            let host = value.rsplit_once(':').map_or(value, |(host, _port)| host);
            self.kind.push_str(host);
        } else {
            push_without_figures(&mut self.kind, value);
        }
        self.kind.push('\n');
        let _ = write!(self.text, "{}{equals}{value}", if self.text.is_empty() { "" } else { " " });
    }
}

impl Visit for LogLine {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.add(field, &format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }
}

/// A text with each number in it replaced by `#`; digits that end a name, as in `n2`, stay.
fn push_without_figures(to: &mut String, text: &str) {
    let mut before = ' ';
    for c in text.chars() {
        let figure = c.is_ascii_digit();
        let of_a_name = before.is_ascii_lowercase();
        match (figure, of_a_name, before) {
            (false, ..) | (true, true, _) => to.push(c),
            (true, false, '#') => {}
            (true, false, _) => to.push('#'),
        }
        before = match (figure, of_a_name) {
            // The next digit belongs to the same name, or to the same figure.
            (true, true) => 'n',
            (true, false) => '#',
            (false, _) => c,
        };
    }
}

#[cfg(test)]
mod tests {
    //! Seen to fail with: every line let through, kinds never forgotten, and figures told apart.

    use std::io::{self, Write};

    use tracing_subscriber::Layer;
    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    impl Lines {
        fn take(&self) -> Vec<String> {
            let text = String::from_utf8(mem::take(&mut *self.0.lock())).unwrap();
            text.lines().map(str::to_owned).collect()
        }
    }

    /// Runs with a throttle in front of what is kept.
    fn throttled(run: impl FnOnce(&Throttle, &Lines)) {
        let (throttle, lines) = (Throttle::default(), Lines::default());
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(lines.clone())
            .with_ansi(false)
            .without_time()
            .with_filter(throttle.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || run(&throttle, &lines));
    }

    fn lost(node: &str, ms: u64) {
        tracing::warn!(node, ms, "no answer from {node} after {ms} ms, at T{ms}-N3.{ms}");
    }

    #[test]
    fn what_comes_again_is_counted_and_told_once_a_period() {
        throttled(|throttle, lines| {
            for ms in 0..1000 {
                lost("n2", ms);
                lost("n3", ms);
            }
            let first = lines.take();
            assert_eq!(first.len(), 2, "{first:?}");
            throttle.tell();
            let told = lines.take();
            assert_eq!(told.len(), 2, "{told:?}");
            for node in ["n2", "n3"] {
                let counted = format!("again (999x): no answer from {node} after 0 ms");
                assert!(told.iter().any(|line| line.contains(&counted)), "{told:?}");
            }
            lost("n2", 1);
            throttle.tell();
            let told = lines.take();
            assert!(told.len() == 1 && told[0].contains("again (1x)"), "{told:?}");
            // A period without it: then it is news.
            throttle.tell();
            assert_eq!(lines.take(), Vec::<String>::new());
            lost("n2", 1);
            assert_eq!(lines.take().len(), 1);
        });
    }

    #[test]
    fn news_are_told_and_what_is_remembered_is_bounded() {
        throttled(|throttle, lines| {
            for n in 0..3 {
                tracing::info!(n, "progress");
                tracing::info!(remote = "10.0.0.1:400", n, "a stranger");
                tracing::info!(remote = %format!("10.0.0.1:{n}"), n, "a stranger with a port");
            }
            assert_eq!(lines.take().len(), 3 + 1 + 1);
            for n in 0..1000 {
                let name = format!("x{n}");
                tracing::error!(name, "another one each time");
            }
            assert_eq!(lines.take().len(), KINDS_MAX + 1);
            assert!(throttle.lock().values().all(|place| place.len() <= KINDS_MAX + 1));
            throttle.tell();
            assert!(lines.take().iter().any(|line| line.contains("again (983x)")));
            throttle.tell();
            assert!(throttle.lock().is_empty());
        });
    }

    #[test]
    fn figures_are_left_out_and_names_stay() {
        let kind = |text: &str| {
            let mut kind = String::new();
            push_without_figures(&mut kind, text);
            kind
        };
        assert_eq!(kind("n12 at T5-N2.177 in 20 ms"), "n12 at T#-N#.# in # ms");
        assert_eq!(kind("node10.example:7101"), "node10.example:#");
    }
}
