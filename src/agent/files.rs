/*! Open files: how many this process may have, and who gets how many of them. */

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Files that are open whatever happens: runtime, listener, log, the files of the running job.
const OTHERS: usize = 32;
/// Files of a connection: its socket, and the file that an upload is written to.
const PER_CONNECTION: usize = 2;
/// Files of a connection to the next tier: its socket, and its runtime's.
const PER_WAY: usize = 6;
/// Connections served at a time, where the limit allows it.
const CONNECTIONS: usize = 512;
/// Connections served at a time, however few files may be open.
const FEWEST: usize = 16;
/// Connections to next tiers, where the limit allows it.
const WAYS: usize = 64;
/// Files that all of these need together.
const ENOUGH: usize = OTHERS + 2 * PER_CONNECTION * CONNECTIONS + 2 * PER_WAY * WAYS;

/// How many connections there may be at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileBudget {
    /// Connections of clients that may be open at once.
    pub(super) connections: usize,
    /// To next tiers, those that wait for the next sample included.
    pub(super) ways: usize,
}

impl FileBudget {
    /// What the system's limit allows, once it is as high as this process may set it.
    pub(super) fn of_process() -> FileBudget {
        let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
            return FileBudget::of(usize::MAX);
        };
        let wanted = hard.min(ENOUGH as u64);
        // Where it refuses, there are as many as before.
        let raised = soft < wanted && setrlimit(Resource::RLIMIT_NOFILE, wanted, hard).is_ok();
        let files = if raised { wanted } else { soft };
        FileBudget::of(usize::try_from(files).unwrap_or(usize::MAX))
    }

    /// What so many open files allow: two thirds of them are for clients, a third for next tiers.
    fn of(files: usize) -> FileBudget {
        let free = files.saturating_sub(OTHERS);
        FileBudget {
            connections: (free / 3 * 2 / PER_CONNECTION).clamp(FEWEST, CONNECTIONS),
            ways: (free / 3 / PER_WAY).clamp(1, WAYS),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(0, 16, 1)]
    #[case(64, 16, 1)]
    #[case(128, 32, 5)]
    #[case(1024, 330, 55)]
    #[case(usize::MAX, 512, 64)]
    fn files_are_shared_out(#[case] files: usize, #[case] connections: usize, #[case] ways: usize) {
        let budget = FileBudget::of(files);
        assert_eq!(budget, FileBudget { connections, ways });
        let needed = OTHERS + PER_CONNECTION * budget.connections + PER_WAY * budget.ways;
        assert!(needed <= files.max(OTHERS + PER_CONNECTION * FEWEST + PER_WAY));
    }
}
