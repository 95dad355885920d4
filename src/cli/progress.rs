//! Progress on stderr: one line that changes on a terminal, a line each 10 s otherwise.

use std::convert::Infallible;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::complain;

/// How often something is said where there is no terminal.
const EVERY: Duration = Duration::from_secs(10);

/// A run that is under way.
pub struct Progress {
    bar: ProgressBar,
    said: Instant,
}

impl Progress {
    /// Of so many steps, or of an unknown number, drawn by the template.
    pub fn new(steps: Option<u64>, template: &str) -> Progress {
        let terminal = std::io::stderr().is_terminal() && std::env::var_os("CI").is_none();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(steps, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Progress { bar, said: Instant::now() }
    }

    /// A line that stays.
    pub fn say(&self, what: &str) {
        self.bar.suspend(|| complain(what));
    }

    /// So many more steps are done, and this is how it stands.
    pub fn step(&mut self, steps: u64, standing: impl Fn() -> String) {
        self.bar.inc(steps);
        if !self.bar.is_hidden() {
            self.bar.set_message(standing());
            self.bar.tick();
        } else if self.said.elapsed() >= EVERY {
            self.said = Instant::now();
            let done = self.bar.length().map(|all| format!("{} of {all} cases, ", self.bar.position()));
            complain(&(done.unwrap_or_default() + &standing()));
        }
    }
}

/// Does this each second, without end.
pub async fn each_second(mut step: impl FnMut()) -> Infallible {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        step();
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
