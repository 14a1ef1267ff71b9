/// Which jobs are to be asked for when: names with a schedule each. A value; ``run(clock:in:ask:)`` follows it.
public struct JobTimetable: Hashable, Sendable {
    /// One job that comes again and again.
    public struct Line: Hashable, Sendable {
        /// What is asked for.
        public var name: String
        /// When.
        public var schedule: CronSchedule

        /// A line.
        public init(name: String, schedule: CronSchedule) {
            self.name = name
            self.schedule = schedule
        }
    }

    /// In any order.
    public var lines: [Line]

    /// An empty table asks for nothing.
    public init(_ lines: [Line] = []) { self.lines = lines }

    /// The next moment after a time at which anything is due; nil: never.
    public func next(after time: WallTime, in calendar: DayCalendar = .system) -> WallTime? {
        lines.compactMap { $0.schedule.next(after: time, in: calendar) }.min()
    }

    /// What has come due after one time and up to another, in the order of the lines, each once however often it did.
    func due(after earlier: WallTime, upTo now: WallTime, in calendar: DayCalendar = .system) -> [String] {
        lines.filter { line in line.schedule.next(after: earlier, in: calendar).map { $0 <= now } ?? false }.map(\.name)
    }

    /// Asks for each job when its time comes, for as long as the task lives.
    ///
    /// What came due while the machine slept is asked for once, late. What was missed while no daemon ran is not made up for.
    /// - Throws: `CancellationError`; it does not return.
    public func run(
        clock: any WallClock, in calendar: DayCalendar = .system, ask: @Sendable (String) async -> Void
    ) async throws {
        var reached = clock.now
        while let time = next(after: reached, in: calendar) {
            try await clock.sleep(until: time)
            // A clock that was set back does not make a moment come twice.
            let now = max(time, clock.now)
            for name in due(after: reached, upTo: now, in: calendar) { await ask(name) }
            reached = now
        }
        // Nothing will ever be due: whoever has another table cancels this.
        try await clock.sleep(until: .distantFuture)
    }
}
