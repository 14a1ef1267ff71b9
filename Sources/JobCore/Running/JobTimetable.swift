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
    public func next(after time: Timestamp, in calendar: DayCalendar = .system) -> Timestamp? {
        lines.compactMap { $0.schedule.next(after: time, in: calendar) }.min()
    }

    /// Asks for each job when its time comes, for as long as the task lives.
    ///
    /// What came due while the machine slept, or because the clock was set forward, is asked for once. What was missed while no daemon ran is not
    /// made up for. Where the clock is set back, see ``Course/clockWasSet(by:now:)``.
    /// - Throws: `CancellationError`; it does not return.
    public func run(
        clock: any WallClock, in calendar: DayCalendar = .system, ask: @Sendable (String) async -> Void
    ) async throws {
        enum Event { case reached(Timestamp), set(by: Duration) }
        let (events, source) = AsyncStream<Event>.makeStream()
        let steps = await clock.steps()
        let listening = Task { for await step in steps { source.yield(.set(by: step)) } }
        var alarm = Alarm()
        defer {
            listening.cancel()
            alarm.stop()
        }
        var course = Course(self, from: clock.now, in: calendar)
        func wait() { alarm.set(to: course.next ?? .distantFuture, by: clock) { source.yield(.reached($0)) } }
        wait()
        for await event in events {
            switch event {
            case .reached(let time):
                alarm.rang(time)
                // The time has come, even if the clock was set back meanwhile.
                for name in course.reach(max(time, clock.now)) { await ask(name) }
            case .set(let step): course.clockWasSet(by: step, now: clock.now)
            }
            wait()
        }
        throw CancellationError()
    }

    /// How far a table has been followed: a value that decides what is asked for.
    struct Course {
        private let lines: [Line]
        private let calendar: DayCalendar
        /// Of each line, the time up to which it has been asked for.
        private var reached: [Timestamp]

        init(_ table: JobTimetable, from now: Timestamp, in calendar: DayCalendar) {
            lines = table.lines
            self.calendar = calendar
            reached = Array(repeating: now, count: lines.count)
        }

        /// When anything comes due; nil: never.
        var next: Timestamp? { lines.indices.compactMap(next(of:)).min() }

        /// What has come due up to a time, in the order of the lines, each once however often it did.
        mutating func reach(_ time: Timestamp) -> [String] {
            let due = lines.indices.filter { index in next(of: index).map { $0 <= time } ?? false }
            for index in lines.indices { reached[index] = max(reached[index], time) }
            return due.map { lines[$0].name }
        }

        /// The clock was set. Forward, what has come due is due now. Back, a line goes on by the new time, unless that makes a time come
        /// again that is less than half the line's period away: so a correction by a few hours has nothing run twice in one night, and no
        /// line waits for longer than one and a half of its periods.
        mutating func clockWasSet(by step: Duration, now: Timestamp) {
            guard step < .zero else { return }
            for index in lines.indices where reached[index] > now {
                guard let first = lines[index].schedule.next(after: now, in: calendar),
                    let second = lines[index].schedule.next(after: first, in: calendar)
                else { continue }
                if (second - first) / 2 <= .zero - step { reached[index] = now }
            }
        }

        private func next(of index: Int) -> Timestamp? {
            lines[index].schedule.next(after: reached[index], in: calendar)
        }
    }
}
