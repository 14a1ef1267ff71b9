/// Recurring work, each with a schedule; ``run(clock:in:after:reached:ask:)`` follows them.
public struct JobTimetable<Work: Hashable & Sendable>: Hashable, Sendable {
    /// One recurring job.
    public struct Line: Hashable, Sendable {
        /// What to do.
        public var work: Work
        /// When.
        public var schedule: CronSchedule

        /// A line.
        public init(_ work: Work, schedule: CronSchedule) {
            self.work = work
            self.schedule = schedule
        }
    }

    /// The recurring jobs in any order.
    public var lines: [Line]

    /// An empty table asks for nothing.
    public init(_ lines: [Line] = []) { self.lines = lines }

    /// Calls `ask` for each job when it is due, until the task is cancelled.
    ///
    /// A timetable that replaces another one goes on where that has stopped: no time of a line that both have is lost or repeated.
    ///
    /// A job that became due while the machine slept, or because the clock was set forward, is asked for once. Times while no daemon ran are
    /// skipped. For a clock that is set back, see ``Progress/clockWasSet(by:now:)``.
    /// - Parameters:
    ///   - former: of each line of the timetable before, the time up to which it is done.
    ///   - reached: called with the same of this timetable whenever it changes.
    /// - Throws: `CancellationError`; it does not return.
    @MainActor public func run(
        clock: any WallClock, in calendar: DayCalendar = .system, after former: [Line: Timestamp] = [:],
        reached: ([Line: Timestamp]) -> Void = { _ in }, ask: (Work) async -> Void
    ) async throws {
        let (events, source) = AsyncStream<TimetableEvent>.makeStream()
        let steps = await clock.steps()
        let listening = Task { for await step in steps { source.yield(.set(by: step)) } }
        var alarm = Alarm()
        defer {
            listening.cancel()
            alarm.stop()
        }
        var progress = Progress(self, from: clock.now, in: calendar, after: former)
        func wait() { alarm.set(to: progress.next ?? .distantFuture, by: clock) { source.yield(.reached($0)) } }
        wait()
        reached(progress.reachedOfLines)
        for await event in events {
            // What was not reached before the cancellation is reached by the timetable that replaces this one.
            guard !Task.isCancelled else { break }
            switch event {
            case .reached(let time):
                alarm.rang(time)
                // Due, even if the clock was set back meanwhile.
                let due = progress.reach(max(time, clock.now))
                reached(progress.reachedOfLines)
                for work in due { await ask(work) }
            case .set(let step):
                progress.clockWasSet(by: step, now: clock.now)
                reached(progress.reachedOfLines)
            }
            wait()
        }
        throw CancellationError()
    }

    /// How far a timetable has been followed: decides which jobs are asked for.
    struct Progress {
        private let lines: [Line]
        private let calendar: DayCalendar
        /// The time up to which each line is done.
        private var reached: [Timestamp]

        init(
            _ table: JobTimetable, from now: Timestamp, in calendar: DayCalendar, after former: [Line: Timestamp] = [:]
        ) {
            lines = table.lines
            self.calendar = calendar
            reached = lines.map { former[$0] ?? now }
            // The clock was set back unnoticed.
            for index in lines.indices where reached[index] > now {
                follow(now, at: index, after: reached[index] - now)
            }
        }

        var reachedOfLines: [Line: Timestamp] { Dictionary(zip(lines, reached), uniquingKeysWith: max) }

        /// When the next job is due; nil: never.
        var next: Timestamp? { lines.indices.compactMap(next(of:)).min() }

        /// The jobs that are due up to a time, in the order of the lines, each once.
        mutating func reach(_ time: Timestamp) -> [Work] {
            let due = lines.indices.filter { index in next(of: index).map { $0 <= time } ?? false }
            for index in lines.indices { reached[index] = max(reached[index], time) }
            return due.map { lines[$0].work }
        }

        /// The clock was set. Forward: jobs whose time has passed are due now. Back: a line follows the new time, unless that repeats a time
        /// that is less than half the line's period away: so a correction by a few hours runs nothing twice in one night, and no
        /// line waits longer than one and a half of its periods.
        mutating func clockWasSet(by step: Duration, now: Timestamp) {
            guard step < .zero else { return }
            for index in lines.indices where reached[index] > now { follow(now, at: index, after: .zero - step) }
        }

        private mutating func follow(_ now: Timestamp, at index: Int, after step: Duration) {
            guard let first = lines[index].schedule.next(after: now, in: calendar),
                let second = lines[index].schedule.next(after: first, in: calendar)
            else { return }
            if (second - first) / 2 <= step { reached[index] = now }
        }

        private func next(of index: Int) -> Timestamp? {
            lines[index].schedule.next(after: reached[index], in: calendar)
        }
    }
}

/// What a timetable waits for.
private enum TimetableEvent {
    case reached(Timestamp)
    /// The clock was set.
    case set(by: Duration)
}
