import Synchronization

/// Runs calls that may block (a file of /proc, a disk, the system's user database) on worker threads, away from the event loop.
package enum BlockingWork {
    /// Work that is soon done.
    /// - Throws: what the body throws.
    package static func run<Value: Sendable, Failure: Error>(
        on pool: WorkerPool = .steps, _ body: @escaping @Sendable () throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        try await withCheckedContinuation { continuation in
            pool.begin { continuation.resume(returning: Result(catching: body)) }
        }.get()
    }

    /// Runs work that may be cancelled. In a cancelled task it does not wait for a thread; where one is free it is run, since it may clean up.
    /// - Parameters:
    ///   - deadline: when it is cancelled; nil: only with its task.
    ///   - body: gets a function that it calls now and then; when that returns true, it must throw `CancellationError`.
    /// - Throws: the error of the body; `Deadline.Passed` when the deadline has cancelled it, and not the task.
    package static func run<Value: Sendable>(
        on pool: WorkerPool = .steps, until deadline: Deadline? = nil,
        _ body: @escaping @Sendable (_ isCancelled: @escaping @Sendable () -> Bool) throws -> Value
    ) async throws -> Value {
        let place = Place()
        let work: @Sendable () throws -> Value = {
            do {
                return try body { place.isCancelled || deadline?.hasPassed ?? false }
            } catch is CancellationError where !place.isCancelled && deadline?.hasPassed ?? false {
                throw Deadline.Passed()
            }
        }
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                place.wait { continuation.resume(throwing: CancellationError()) }
                let hasThread = pool.begin {
                    if place.begin() { continuation.resume(with: Result { try work() }) }
                }
                // A task that was cancelled before is not told of it again.
                if !hasThread, place.isCancelled { place.cancel() }
            }
        } onCancel: {
            place.cancel()
        }
    }

    /// Work in a pool: it is either started or withdrawn.
    private final class Place: Sendable {
        private struct State {
            var isCancelled = false
            var hasBegun = false
            /// Ends the wait; nil: it has not begun, or has ended.
            var withdraw: (@Sendable () -> Void)?
        }

        private let state = Mutex(State())

        var isCancelled: Bool { state.withLock(\.isCancelled) }

        /// - Parameter withdraw: called when the task is cancelled before the work has started.
        func wait(_ withdraw: @escaping @Sendable () -> Void) { state.withLock { $0.withdraw = withdraw } }

        /// - Returns: false when it has been withdrawn.
        func begin() -> Bool {
            state.withLock { state in
                state.hasBegun = state.withdraw != nil
                state.withdraw = nil
                return state.hasBegun
            }
        }

        func cancel() {
            let withdraw = state.withLock { state in
                state.isCancelled = true
                defer { state.withdraw = nil }
                return state.hasBegun ? nil : state.withdraw
            }
            withdraw?()
        }
    }
}

/// Each kind of work has threads of its own, so that a slow kind delays no other.
extension WorkerPool {
    /// Short reads and changes: plans and steps of accounts, settings, the user database.
    package static let steps = WorkerPool("steps", limit: 16)
    /// Walks through customers' trees: measuring, inspecting, removing. They take as long as the tree is large, so there are more threads than
    /// jobs that usually run at once: a job makes one walk at a time, and the jobs' slots bound how many there are.
    package static let walks = WorkerPool("walks", limit: 64)
    /// The start of a program, which stops its thread until the program runs. These threads live as long as this process.
    package static let starts = WorkerPool("starts", limit: 4, isLasting: true)
    /// Lines of a log whose reader does not keep up.
    package static let log = WorkerPool("log", limit: 2)
    /// Copying the log of the history's database into the database, which waits for the disk.
    package static let history = WorkerPool("history log", limit: 1)
    /// The opening and closing of LDAP connections. If the server or the resolver does not answer, the thread is blocked until the time limit.
    package static let ldap = WorkerPool("ldap", limit: 8)
}

/// The clock for time limits: it cannot be set, and it continues while the machine sleeps. Tests replace it.
package protocol SteadyClock: Clock where Duration == Swift.Duration, Instant == ContinuousClock.Instant {}

extension ContinuousClock: SteadyClock {}

/// The time by which work must have ended.
package struct Deadline: Sendable {
    private let end: ContinuousClock.Instant
    private let clock: any SteadyClock

    /// - Parameters:
    ///   - limit: how long the work may take from now on.
    ///   - clock: for that time.
    package init(in limit: Duration, by clock: any SteadyClock = ContinuousClock()) {
        end = clock.now + limit
        self.clock = clock
    }

    /// How long the work may still take; zero or negative: no longer.
    package var left: Duration { clock.now.duration(to: end) }

    package var hasPassed: Bool { left <= .zero }

    /// Returns when it has passed.
    /// - Throws: `CancellationError`.
    package func wait() async throws { try await clock.sleep(until: end, tolerance: nil) }

    /// - Throws: ``Passed``.
    package func demand() throws(Passed) { if hasPassed { throw Passed() } }

    /// Work was cancelled by its time limit.
    package struct Passed: Error, Hashable { package init() {} }
}
