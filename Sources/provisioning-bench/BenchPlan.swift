/// The extent of a benchmark run.
struct BenchPlan: Hashable, Sendable {
    /// Accounts of each throughput run.
    var jobs: Int
    /// Accounts of each run that searches for the best numbers of connections and threads.
    var scoutJobs: Int
    /// Accounts of the shell loop, which is much slower.
    var shellJobs: Int
    /// Accounts of the Perl program.
    var perlJobs: Int
    /// Accounts that are added with the shipped home script.
    var scriptJobs: Int
    /// The setups of `limit.combined`, and of `limit.ldap` without processes.
    var overlaps: [Overlap]
    /// Threads for `limit.spawn`.
    var spawners: [Int]
    /// The settings of the daemon.
    var setups: [DaemonSetup]
    /// Requests of the latency measurement.
    var latencyRequests: Int
    /// Single modifies and process starts, for comparison with the latency.
    var singles: Int
    /// Numbers of accounts, ascending.
    var sizes: [Int]
    /// Starts of the daemon with each number of accounts.
    var starts: Int
    /// The number of accounts of the idle daemon, one of `sizes`.
    var idleSize: Int
    /// How long the idle daemon is measured.
    var idleTime: Duration
    /// Requests that wait at the same time.
    var pending: Int
    /// How long the daemon processes them; nil: until all are done.
    var pendingTime: Duration?
    /// The time limit of the run; it ends with the measurements so far.
    var limit: Duration

    /// How writes and processes overlap.
    struct Overlap: Hashable, Sendable {
        var connections: Int
        /// Concurrent jobs on each connection.
        var window: Int
        /// Threads that start processes. 0: each connection's thread processes one job after the other.
        var spawners: Int
    }

    /// Pending accounts at each size.
    static let pendingOfSize = 100

    /// Everything for the documented figures.
    static let full = Self(
        jobs: 4_000, scoutJobs: 600, shellJobs: 400, perlJobs: 1_500, scriptJobs: 400,
        overlaps: [
            Overlap(connections: 1, window: 8, spawners: 2), Overlap(connections: 1, window: 32, spawners: 4),
            Overlap(connections: 2, window: 8, spawners: 2), Overlap(connections: 2, window: 16, spawners: 4),
            Overlap(connections: 4, window: 4, spawners: 4), Overlap(connections: 4, window: 16, spawners: 8),
            Overlap(connections: 8, window: 8, spawners: 4), Overlap(connections: 4, window: 1, spawners: 0),
            Overlap(connections: 8, window: 1, spawners: 0), Overlap(connections: 16, window: 1, spawners: 0),
        ],
        spawners: [1, 2, 4, 8],
        setups: DaemonSetup.grid, latencyRequests: 2_000, singles: 2_000, sizes: [1_000, 10_000, 100_000, 1_000_000],
        starts: 5, idleSize: 100_000, idleTime: .seconds(60), pending: 100_000, pendingTime: nil, limit: .seconds(7_200)
    )

    /// At most five minutes. The sizes are not reduced, because slapadd is fast.
    static let quick = Self(
        jobs: 1_200, scoutJobs: 300, shellJobs: 120, perlJobs: 400, scriptJobs: 100,
        overlaps: [
            Overlap(connections: 2, window: 8, spawners: 2), Overlap(connections: 2, window: 16, spawners: 4),
            Overlap(connections: 4, window: 4, spawners: 4), Overlap(connections: 8, window: 1, spawners: 0),
        ],
        spawners: [2, 4], setups: DaemonSetup.few, latencyRequests: 300, singles: 300,
        sizes: [10_000, 100_000, 1_000_000], starts: 3,
        idleSize: 100_000, idleTime: .seconds(20), pending: 100_000, pendingTime: .seconds(15), limit: .seconds(270))
}

/// The settings of a run of the daemon.
struct DaemonSetup: Hashable, Sendable {
    /// The requests and the home script.
    enum Task: String, Hashable, Sendable {
        /// `modify` of existing homes with a script that does nothing.
        case modify = "ours.modify"
        /// `add` of accounts without a home, with the shipped script.
        case add = "ours.add"
        /// `modify` of existing homes with `HOME_SCRIPT` empty: no process at all.
        case empty = "ours.empty"
        /// `delete` of accounts without a home, with `HOME_SCRIPT` empty.
        case delete = "pending"
    }

    /// The setting DETECTION.
    enum Detection: String, Hashable, Sendable { case persist, poll }

    var task: Task
    /// The setting SLOTS.
    var slots: Int
    /// How requests are detected.
    var detection = Detection.persist

    /// Every number of slots, with both kinds of detection.
    static let grid: [Self] = {
        let slots = [1, 2, 4, 8, 16]
        var setups: [Self] = []
        for task in [Task.modify, .empty] {
            for detection in [Detection.persist, .poll] {
                setups += slots.map { Self(task: task, slots: $0, detection: detection) }
            }
        }
        return setups + slots.map { Self(task: .add, slots: $0) }
    }()

    /// The setups for the ratios, and one of each other kind.
    static let few =
        [4, 8, 16].map { Self(task: .modify, slots: $0) }
        + [
            Self(task: .modify, slots: 8, detection: .poll), Self(task: .empty, slots: 8),
            Self(task: .empty, slots: 16), Self(task: .add, slots: 4),
        ]
}

/// Why something could not be measured.
struct BenchFailure: Error, Hashable, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
