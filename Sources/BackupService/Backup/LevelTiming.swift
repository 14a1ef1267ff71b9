package import JobCore

/// When an account's snapshots of a level are due, when one is overdue, and when another one is too soon. A value without clock and disk.
package struct LevelTiming: Sendable {
    let level: SnapshotLevel
    /// nil: only by hand.
    private let schedule: CronSchedule?
    private let timeLimit: Duration
    private let calendar: DayCalendar

    package init(_ level: SnapshotLevel, _ jobs: BackupJobsConfiguration, calendar: DayCalendar = .system) {
        self.level = level
        schedule = jobs.schedules[level]
        timeLimit = jobs.timeLimit
        self.calendar = calendar
    }

    /// The last success if it is less than half a period ago.
    func recentSuccess(_ state: SnapshotState, now: Timestamp) -> Timestamp? {
        guard let success = newest(of: [state.lastSuccess(of: level)], atMost: Self.clockTolerance, now: now),
            now - success < period(after: success) / 2
        else { return nil }
        return success
    }

    /// Whether a time of the schedule is between the last run and now.
    ///
    /// The last run is the last completed or failed job: a run is repeated once.
    /// - Parameters:
    ///   - failed: when the newest failed job of the level was requested, if no later one succeeded.
    ///   - provisioned: when the account was last added or modified, for one without snapshots; nil: unknown.
    ///   - since: used if no time is known that counts; nil: the level is due then.
    func isDue(
        _ state: SnapshotState, failed: Timestamp? = nil, provisioned: Timestamp?, since: Timestamp?, now: Timestamp
    ) -> Bool {
        guard let schedule else { return false }
        let recorded = [state.lastSuccess(of: level), state.lastCompletion(of: level), failed]
        let last = newest(of: recorded, or: provisioned, atMost: Self.clockTolerance, now: now) ?? since
        guard let last else { return true }
        return schedule.next(after: last, in: calendar).map { $0 <= now } ?? false
    }

    /// The deadline of the next success; nil: none is expected, or the last one is unknown.
    /// - Parameters:
    ///   - lastSuccess: the last job with a complete snapshot.
    ///   - lastCompletion: the last job that ended without being interrupted. Where a level does not copy, having nothing to take over is a success; an
    ///     incomplete copy is none.
    ///   - copies: whether the level copies.
    ///   - provisioned: when the account was added or modified; for the first success. nil: unknown.
    ///   - window: outside of it no backup begins; nil: at any time.
    package func deadline(
        lastSuccess: Timestamp?, lastCompletion: Timestamp?, copies: Bool, provisioned: Timestamp?,
        window: TimeWindow?, now: Timestamp
    ) -> Timestamp? {
        let last =
            newest(of: [lastSuccess, copies ? nil : lastCompletion], or: provisioned, now: now)
            // All are too far ahead: the level is overdue if it has run since the correction.
            ?? newest(of: [lastCompletion], now: now).flatMap { _ in provisioned }
        return last.flatMap { deadline(after: $0, window: window) }
    }

    /// One and a half periods of the schedule after a success, plus the time for which its window is closed, and the time limit of a backup.
    ///
    /// The period is the one at this time, so schedules may omit weekends.
    /// - Returns: nil: the schedule has no later time.
    func deadline(after success: Timestamp, window: TimeWindow? = nil) -> Timestamp? {
        guard let schedule, let run = schedule.next(after: success, in: calendar),
            let next = schedule.next(after: run, in: calendar)
        else { return nil }
        func opening(_ time: Timestamp) -> Timestamp { window?.opening(after: time, in: calendar) ?? time }
        return opening(opening(run) + (next - run) / 2) + timeLimit
    }

    /// How far a time may be ahead so that a run is left out. That run is lost, whereas an alarm only comes later.
    private static let clockTolerance = Duration.seconds(900)

    /// The newest recorded time that counts. One that is ahead was recorded before the clock was corrected: a little ahead it counts, so that no run is
    /// repeated; further ahead it does not, so that no account waits until that time.
    /// - Parameters:
    ///   - provisioned: used where nothing is recorded, but not where all times are ahead: a correction must not make the level due or overdue at once.
    ///   - limit: how far ahead a time counts; never further than half a period.
    private func newest(
        of recorded: [Timestamp?], or provisioned: Timestamp? = nil, atMost limit: Duration = .seconds(Int64.max),
        now: Timestamp
    ) -> Timestamp? {
        let known = recorded.compactMap(\.self)
        if known.isEmpty { return provisioned.flatMap { $0 <= now ? $0 : nil } }
        return known.filter { $0 <= now || $0 - now < min(limit, period(after: now) / 2) }.max()
    }

    /// The shortest time between two times of the schedule after a time; without a schedule, by the name of the level.
    private func period(after time: Timestamp) -> Duration {
        guard let schedule else { return level.period }
        // 16 are enough for the gaps within a day and over a weekend.
        let times = sequence(first: time) { schedule.next(after: $0, in: calendar) }.dropFirst().prefix(16)
        return zip(times, times.dropFirst()).map { $1 - $0 }.min() ?? level.period
    }
}

extension SnapshotLevel {
    /// The time from one snapshot to the next, if there is no schedule.
    fileprivate var period: Duration {
        let hours =
            switch self {
            case .hourly: 1
            case .daily: 24
            case .weekly: 7 * 24
            case .monthly: 30 * 24
            case .yearly: 365 * 24
            }
        return .seconds(hours * 3_600)
    }
}
