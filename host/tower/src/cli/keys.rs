//! Keys that a watched trace is ordered about with, where somebody sits at a terminal.
//!
//! The terminal hands keys on one by one and unseen only as long as a [`Keys`] lives: at its end, in a panic, at a signal that ends or stops
//! the process, it is as it was before.

use std::time::Duration;

use reqwest::Method;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Signal, getpgrp, getpid, kill_process};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetpgrp, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tower_domain::id::TraceId;

use super::client::Client;
use super::failure::Failure;
use super::orders;
use super::term::{Term, cut, one_line};
use crate::api::types::Reason;

/// What is offered.
const OFFERED: &str = "c cancel  p pause  r resume  q leave";
/// How often a watcher in the background looks whether it is in front again.
const BACKGROUND: Duration = Duration::from_millis(200);
/// Why, as the audit has it.
const REASON: &str = "a key in tower watch";

/// Why the keys are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Over {
    /// Whoever watches wants to leave.
    Leave,
    /// The process is asked to end.
    End,
}

/// Keys that were pressed, and what came of them.
pub(crate) struct Keys {
    client: Client,
    trace: TraceId,
    pressed: mpsc::UnboundedReceiver<u8>,
    answers: (mpsc::UnboundedSender<String>, mpsc::UnboundedReceiver<String>),
    signals: Signals,
    term: Term,
    line: watch::Sender<String>,
    asks: bool,
    said: String,
    terminal: Terminal,
}

/// Those that end or stop the process; Ctrl-C is heard by whoever watches.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
    stop: tokio::signal::unix::Signal,
    go_on: tokio::signal::unix::Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
            stop: signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?,
            go_on: signal(SignalKind::from_raw(Signal::CONT.as_raw()))?,
        })
    }
}

impl Keys {
    /// Listens, and says on a line for the bottom of `term` what can be pressed; none where standard input is no terminal.
    pub(crate) fn listen(client: Client, trace: TraceId, term: Term) -> Option<(Self, watch::Receiver<String>)> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let signals = Signals::listen().ok()?;
        let mut terminal = Terminal { before, entered: false };
        terminal.enter();
        let (line, shown) = watch::channel(String::new());
        let (pressed, answers) = (read_apart(), mpsc::unbounded_channel());
        let keys = Self { client, trace, pressed, answers, signals, term, line, asks: false, said: String::new(), terminal };
        keys.show();
        Some((keys, shown))
    }

    fn show(&self) {
        let text = match (self.asks, self.said.as_str()) {
            (true, _) => "cancel the trace? y/n".to_owned(),
            (false, "") => OFFERED.to_owned(),
            (false, said) => format!("{OFFERED}    {said}"),
        };
        let text = cut(&text, self.term.width, self.term.ascii);
        self.line.send_replace(if self.asks { self.term.bold(&text) } else { self.term.faint(&text) });
    }

    /// Hears keys until somebody wants to leave.
    pub(crate) async fn hear(mut self) -> Over {
        loop {
            tokio::select! {
                Some(key) = self.pressed.recv() => if self.press(key) {
                    return Over::Leave;
                },
                Some(said) = self.answers.1.recv() => self.said = said,
                _ = self.signals.terminate.recv() => return Over::End,
                _ = self.signals.hang_up.recv() => return Over::End,
                _ = self.signals.quit.recv() => return Over::End,
                _ = self.signals.stop.recv() => self.terminal.stop(),
                _ = self.signals.go_on.recv() => self.terminal.enter(),
            }
            self.show();
        }
    }

    /// Answers whether it means to leave.
    fn press(&mut self, key: u8) -> bool {
        let answers_a_question = std::mem::take(&mut self.asks);
        match (answers_a_question, key.to_ascii_lowercase()) {
            (true, b'y') => self.order("cancel"),
            (false, b'c') => self.asks = true,
            (false, b'p') => self.order("pause"),
            (false, b'r') => self.order("resume"),
            (false, b'q') => return true,
            _ => {}
        }
        false
    }

    /// Gives an order beside the watching: a server that is slow to answer is no reason not to hear the next key.
    fn order(&mut self, verb: &'static str) {
        self.said = format!("{verb} …");
        let (client, trace, answers) = (self.client.clone(), self.trace, self.answers.0.clone());
        tokio::spawn(async move {
            let said = ordered(&client, trace, verb).await.unwrap_or_else(|failure| refused(&failure));
            // Nobody reads it any more: the watching is over.
            let _ = answers.send(said);
        });
    }
}

async fn ordered(client: &Client, trace: TraceId, verb: &str) -> Result<String, Failure> {
    let reply = client.json(Method::POST, &format!("/traces/{trace}/{verb}"), &[], &Reason { reason: REASON.to_owned() }, None).await?;
    let said = match verb {
        "cancel" => orders::cancelled(&reply.read()?),
        "pause" => orders::paused(&reply.read()?),
        _ => orders::resumed(&reply.read()?),
    };
    Ok(one_line(said.trim_end()))
}

fn refused(failure: &Failure) -> String {
    let prose = failure.prose().unwrap_or_default();
    one_line(prose.lines().next().unwrap_or("the order failed"))
}

/// Reads keys in a thread of its own, which ends with the process: a read from a terminal cannot be broken off.
fn read_apart() -> mpsc::UnboundedReceiver<u8> {
    let (send, receive) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        let stdin = std::io::stdin();
        let mut key = [0];
        while !send.is_closed() {
            if poll(&mut [PollFd::new(&stdin, PollFlags::IN)], None).is_err() {
                continue;
            }
            // A read in the background would stop the process, and what is typed there is not for it.
            if !is_in_front() {
                std::thread::sleep(BACKGROUND);
                continue;
            }
            match rustix::io::read(&stdin, &mut key) {
                Ok(0) => return,
                Ok(_) if send.send(key[0]).is_err() => return,
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => return,
            }
        }
    });
    receive
}

/// Whether this process is the one that the terminal's keys are for.
fn is_in_front() -> bool {
    tcgetpgrp(std::io::stdin()).is_ok_and(|front| front == getpgrp())
}

/// The terminal of standard input.
struct Terminal {
    before: Termios,
    entered: bool,
}

impl Terminal {
    /// Keys come one by one and are not echoed; signals by key stay. Not from the background, where it would stop the process.
    fn enter(&mut self) {
        if self.entered || !is_in_front() {
            return;
        }
        let mut modes = self.before.clone();
        modes.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        self.entered = tcsetattr(std::io::stdin(), OptionalActions::Now, &modes).is_ok();
    }

    fn leave(&mut self) {
        if std::mem::take(&mut self.entered) {
            // There is nobody to tell if the terminal is gone.
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Flush, &self.before);
        }
    }

    /// What Ctrl-Z would have done, had it not been heard here.
    fn stop(&mut self) {
        self.leave();
        let _ = kill_process(getpid(), Signal::STOP);
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.leave();
    }
}
