/// The clock by which time limits go: nobody sets it, and it goes on while the machine sleeps. Tests have one of their own.
package protocol SteadyClock: Clock where Duration == Swift.Duration, Instant == ContinuousClock.Instant {}

extension ContinuousClock: SteadyClock {}

/// The time by which work has to have ended, so that it keeps its place from others no longer than that.
package struct Deadline: Sendable {
    private let end: ContinuousClock.Instant
    private let clock: any SteadyClock

    /// - Parameters:
    ///   - limit: how long the work may take from now on.
    ///   - clock: by which that goes.
    package init(in limit: Duration, by clock: any SteadyClock = ContinuousClock()) {
        end = clock.now + limit
        self.clock = clock
    }

    /// How long the work may still take; zero or negative: no longer.
    package var left: Duration { clock.now.duration(to: end) }

    package var hasPassed: Bool { left <= .zero }

    /// Returns when it has.
    /// - Throws: `CancellationError`.
    package func wait() async throws { try await clock.sleep(until: end, tolerance: nil) }

    /// - Throws: ``Passed`` where it has.
    package func demand() throws(Passed) { if hasPassed { throw Passed() } }

    /// Work was cut off by its time limit.
    package struct Passed: Error, Hashable { package init() {} }
}
