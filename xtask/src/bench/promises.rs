//! All benchmarks, and the limits that each must meet.

/// A bench target and its promises.
pub(crate) struct Benchmark {
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    pub(crate) target: &'static str,
    /// Name of the benchmark within a target that contains several.
    pub(crate) part: Option<&'static str>,
    /// Whether the benchmark needs a real server, even in a smoke run.
    pub(crate) server: bool,
    pub(crate) about: &'static str,
    pub(crate) promises: &'static [Promise],
}

/// A limit such as "on this work, the value of ours is at least (or at most) N times the
/// subject's".
pub(crate) struct Promise {
    pub(crate) work: &'static str,
    pub(crate) against: &'static str,
    pub(crate) bound: Bound,
    /// How the README describes the promise, if it shows it.
    pub(crate) headline: Option<Headline>,
}

/// The words of the README for a promise. The README shows at most eight.
#[derive(Clone, Copy)]
pub(crate) struct Headline {
    pub(crate) task: &'static str,
    /// Description of the subject compared with.
    pub(crate) other: &'static str,
}

impl Promise {
    pub(crate) const fn headline(mut self, task: &'static str, other: &'static str) -> Self {
        self.headline = Some(Headline { task, other });
        self
    }
}

#[derive(Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

pub(crate) const fn at_least(work: &'static str, times: f64, against: &'static str) -> Promise {
    let bound = Bound::AtLeast(times);
    Promise {
        work,
        against,
        bound,
        headline: None,
    }
}

pub(crate) const fn at_most(work: &'static str, times: f64, against: &'static str) -> Promise {
    let bound = Bound::AtMost(times);
    Promise {
        work,
        against,
        bound,
        headline: None,
    }
}

const fn clients(name: &'static str) -> Benchmark {
    Benchmark {
        name,
        package: "openhands-benches",
        target: "clients",
        part: Some(name),
        server: false,
        about: "",
        promises: &[],
    }
}

/// All benchmarks.
pub(crate) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "decode",
        package: "oh-protocol",
        target: "decode",
        part: None,
        server: false,
        about: "Decodes a recorded conversation: whole events, and headers only.",
        promises: &[
            at_least("typed", 30.0, "Python SDK")
                .headline("Decode the events of a conversation", "Python SDK"),
            at_least("typed", 3.5, "Node JSON.parse"),
            // The own JSON scanner is not worth its code below this.
            at_least("typed", 2.5, "serde_json"),
            at_least("header", 40.0, "Python SDK"),
            at_most("held event", 1.0, "1.3 times its bytes + 200"),
        ],
    },
    Benchmark {
        about: "Receives live events over one socket, into a mirror and one callback.",
        promises: &[
            at_most("live, processor time", 1.0 / 40.0, "Python SDK").headline(
                "Receive live events (processor time for each)",
                "Python SDK",
            ),
            // Missed: the floor keeps nothing. docs/benchmarks.md says where the time goes.
            at_most("live, processor time", 2.0, "bare frame reader"),
        ],
        ..clients("live")
    },
    Benchmark {
        about: "Attaches to a long conversation on the real server.",
        server: true,
        promises: &[
            at_most("attach", 1.1, "bare drain"),
            at_most("attach, processor time", 1.0 / 2.5, "Python SDK"),
            at_most("retained memory", 1.0, "promised"),
        ],
        ..clients("attach")
    },
    Benchmark {
        about: "Attaches to the last 50 of 100,000 events on the real server, and reads older \
                ones on demand.",
        server: true,
        promises: &[
            at_most("last 50 of 100,000", 1.0 / 40.0, "bare drain").headline(
                "Open a conversation of 100,000 events at its newest 50",
                "reading all of its events",
            ),
            at_most("last 50 of 100,000", 1.3, "of 1,000"),
            at_most("memory of the last 50", 1.0, "promised"),
            at_least("older events", 0.8, "bare REST"),
        ],
        ..clients("tail")
    },
    Benchmark {
        about: "Keeps live conversations in one process: the memory of each beyond its state \
                and events.",
        promises: &[
            at_most("1,000 conversations", 0.1, "Python SDK").headline(
                "Keep 1,000 conversations open (memory for each)",
                "Python SDK",
            ),
            // Missed: about 5 KiB are 20 events beyond their bytes ("held event" limits those).
            at_most("1,000 conversations", 1.0, "promised"),
            at_most("10,000 conversations", 1.0, "promised"),
            at_most("requests while idle, 1,000 conversations", 1.0, "promised"),
            at_most("requests while idle, 10,000 conversations", 1.0, "promised"),
            at_most("threads, 1,000 conversations", 1.0, "cores + 2"),
            at_most("threads, 10,000 conversations", 1.0, "cores + 2"),
        ],
        ..clients("many")
    },
    Benchmark {
        name: "workspace",
        package: "oh-workspace",
        target: "workspace",
        part: None,
        server: true,
        about: "Commands, compared with the server's blocking endpoint, and files, compared \
                with curl.",
        promises: &[
            at_most("pwd, median", 1.15, "execute_bash_command"),
            at_most("pwd, 90th percentile", 1.15, "execute_bash_command"),
            at_most(
                "end of a 250 ms command seen, 90th percentile",
                1.0,
                "promised",
            ),
            at_least("upload", 0.9, "curl"),
            at_least("download", 0.9, "curl"),
            at_most("upload memory growth", 1.0, "promised"),
            at_most("download memory growth", 1.0, "promised"),
        ],
    },
    Benchmark {
        name: "process",
        package: "oh-process",
        target: "process",
        part: None,
        server: false,
        about: "The cost of supervision at the start and end of a server, and the time that a \
                template and a warm spare save.",
        promises: &[
            at_most("start, added", 1.0, "promised"),
            at_most("forked server", 0.2, "cold start")
                .headline("Start a server from a template", "starting it without one"),
            at_most("forked server, processor time", 0.2, "cold start"),
            at_most("memory of a server", 1.0, "promised"),
            at_most("memory of ten servers", 1.0, "promised"),
            at_most("warm server", 1.0 / 80.0, "cold start")
                .headline("Take a server out of a warm pool", "starting one"),
            at_most("warm server", 1.0, "promised"),
            at_most("shutdown, added", 1.0, "promised"),
        ],
    },
    Benchmark {
        about: "The time from the server's final snapshot until `run()` returns.",
        promises: &[
            at_most("run returns, 90th percentile", 1.0, "promised"),
            at_most("run returns, 90th percentile", 0.1, "Python SDK").headline(
                "Return from `run()` once the agent has finished",
                "Python SDK",
            ),
        ],
        ..clients("returns")
    },
    Benchmark {
        about: "The whole main job, from the start of the process to its end.",
        server: true,
        promises: &[
            at_most("main job", 0.5, "Python SDK").headline(
                "Start a server, run an agent on a small task, stop",
                "Python SDK",
            ),
            at_most("main job, template ready", 1.0, "promised"),
        ],
        ..clients("main-job")
    },
    Benchmark {
        about: "A server in a container: start, stop and memory, and the time that a template and \
                a pool save. The Python client counts a server as ready when it answers; this \
                library also verifies its key and version.",
        server: true,
        promises: &[
            at_most("server from a template", 1.0, "promised"),
            at_most("server from a template", 0.4, "cold start"),
            at_most("memory of a server from a template", 0.5, "cold start"),
            at_most("server from a pool", 1.0, "promised"),
        ],
        ..clients("docker")
    },
    Benchmark {
        about: "A clean build of each layer: time, crates, size of a stripped binary.",
        ..clients("layers")
    },
    Benchmark {
        about: "Ten times the work: the processor time of one unit, compared with that of the \
                smaller amount.",
        promises: &[
            at_most("decode", 1.2, "at a tenth"),
            at_most("live events", 1.2, "at a tenth"),
            at_most("live conversations", 1.2, "at a tenth"),
            at_most("readers", 1.2, "at a tenth"),
            at_most("1,000 running", 1.2, "of one"),
            at_most("attach", 1.2, "at a tenth"),
        ],
        ..clients("growth")
    },
    Benchmark {
        name: "transport",
        package: "oh-transport",
        target: "transport",
        part: None,
        server: false,
        about: "The cost of the pool, retries, limits and typed responses compared with bare \
                hyper, and of whole messages behind a channel compared with bare fastwebsockets.",
        promises: &[
            at_most("requests, processor time", 1.25, "bare hyper"),
            at_most("requests, 8 at once, processor time", 1.25, "bare hyper"),
            at_least("frames", 0.4, "bare fastwebsockets"),
        ],
    },
    Benchmark {
        name: "load",
        package: "oh-testkit",
        target: "load",
        part: None,
        server: false,
        about: "The speed of the fake server, which limits what a client can reach in a \
                benchmark.",
        // Below this, the server would be the bottleneck. Bare TCP is the upper limit, at three
        // times what the transport reads.
        promises: &[
            at_least("replay", 2.0, "oh-transport"),
            at_most("replay, processor time", 0.5, "oh-transport"),
            at_least("replay", 0.5, "bare TCP"),
            at_most("hold memory", 2.0, "their JSON"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::BENCHMARKS;

    #[test]
    fn the_readme_has_at_most_eight_different_rows() {
        let promises = BENCHMARKS.iter().flat_map(|bench| bench.promises);
        let tasks = promises.filter_map(|promise| Some(promise.headline?.task));
        let mut tasks: Vec<_> = tasks.collect();
        assert!(tasks.len() <= 8, "{tasks:?}");
        let count = tasks.len();
        tasks.sort_unstable();
        tasks.dedup();
        assert_eq!(tasks.len(), count);
    }
}
