/// How much a run measures. A pure value; the two that there are differ in nothing but their numbers.
struct BenchPlan: Hashable, Sendable {
    /// Accounts that each throughput run works on.
    var jobs: Int
    /// Accounts that each try works on while the best numbers of connections and threads are searched for.
    var scoutJobs: Int
    /// Accounts that the shell loop works on, being so much slower.
    var shellJobs: Int
    /// Accounts that the Perl program works on.
    var perlJobs: Int
    /// Accounts that are added with the shipped script.
    var scriptJobs: Int
    /// Connections, jobs under way on each, and threads that start processes, for `limit.combined`; of the first two also
    /// `limit.ldap` is made.
    var overlaps: [Overlap]
    /// Threads for `limit.spawn`.
    var spawners: [Int]
    /// What the daemon is measured with.
    var setups: [DaemonSetup]
    /// Wishes of the latency measurement.
    var latencyWishes: Int
    /// Single modifies, and single starts of a process, that latency is compared with.
    var singles: Int
    /// Numbers of accounts, growing.
    var sizes: [Int]
    /// How often the daemon is started on a directory of each size.
    var starts: Int
    /// Where the idle daemon is watched: the number of accounts, one of `sizes`.
    var idleSize: Int
    /// How long it is watched.
    var idleTime: Duration
    /// Wishes that wait at once.
    var pending: Int
    /// How long the daemon works on them before it is stopped; nil: until all are done.
    var pendingTime: Duration?
    /// After that the run ends with what it has.
    var limit: Duration

    /// One way of overlapping writes and processes.
    struct Overlap: Hashable, Sendable {
        var connections: Int
        /// Jobs under way on each connection.
        var window: Int
        /// 0: each connection's thread does one job after the other, the process included.
        var spawners: Int
    }

    /// Accounts of a directory of any size that are pending.
    static let pendingOfSize = 100

    /// Everything that the figures need.
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
        setups: DaemonSetup.grid, latencyWishes: 2_000, singles: 2_000, sizes: [1_000, 10_000, 100_000, 1_000_000],
        starts: 5, idleSize: 100_000, idleTime: .seconds(60), pending: 100_000, pendingTime: nil, limit: .seconds(7_200)
    )

    /// For at most five minutes, the start included. The sizes stay, for slapadd is quick.
    static let quick = Self(
        jobs: 1_200, scoutJobs: 300, shellJobs: 120, perlJobs: 400, scriptJobs: 100,
        overlaps: [
            Overlap(connections: 2, window: 8, spawners: 2), Overlap(connections: 2, window: 16, spawners: 4),
            Overlap(connections: 4, window: 4, spawners: 4), Overlap(connections: 8, window: 1, spawners: 0),
        ],
        spawners: [2, 4], setups: DaemonSetup.few, latencyWishes: 300, singles: 300,
        sizes: [10_000, 100_000, 1_000_000], starts: 3,
        idleSize: 100_000, idleTime: .seconds(20), pending: 100_000, pendingTime: .seconds(15), limit: .seconds(270))
}

/// One way to run the daemon.
struct DaemonSetup: Hashable, Sendable {
    /// What the accounts wish, and which home script there is.
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

    /// What is measured.
    var task: Task
    /// The setting SLOTS.
    var slots: Int
    /// How wishes are noticed.
    var detection = Detection.persist

    /// Every number of slots, by both ways of noticing wishes.
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

    /// Those that the ratios need, and one of each other kind.
    static let few =
        [4, 8, 16].map { Self(task: .modify, slots: $0) }
        + [
            Self(task: .modify, slots: 8, detection: .poll), Self(task: .empty, slots: 8),
            Self(task: .empty, slots: 16), Self(task: .add, slots: 4),
        ]
}
