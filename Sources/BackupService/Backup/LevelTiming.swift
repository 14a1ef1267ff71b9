import JobCore

/// When an account's snapshots of a level are due, and when another one is too soon. A value: it looks at no clock and no disk.
struct LevelTiming: Sendable {
    let level: SnapshotLevel
    /// nil: only by hand.
    let schedule: CronSchedule?
    private let calendar: DayCalendar

    init(_ level: SnapshotLevel, _ jobs: BackupJobsConfiguration, calendar: DayCalendar = .system) {
        self.level = level
        schedule = jobs.schedules[level]
        self.calendar = calendar
    }

    /// The last success, where another snapshot is too soon: it is less than half a period ago.
    ///
    /// One that lies in the future was recorded while the clock was wrong, and is none.
    func recentSuccess(_ state: SnapshotState, now: Timestamp) -> Timestamp? {
        guard let success = state.lastSuccess(of: level), success <= now, now - success < period(after: success) / 2
        else { return nil }
        return success
    }

    /// Whether the schedule asks for a snapshot: one of its times lies between the last one and now.
    ///
    /// What counts as the last one is an orderly end of a job, or a job that has failed: a run is made up for once. Times in the future were
    /// recorded while the clock was wrong, and do not count.
    /// - Parameters:
    ///   - failed: when the newest job of the level that failed was asked for, if no later one succeeded; nil: none did.
    ///   - provisioned: when the account was added or modified last, for one that has no snapshots yet; nil: not known.
    ///   - since: where nothing else is known, a time of the schedule must lie after it; nil: that is so.
    func isDue(
        _ state: SnapshotState, failed: Timestamp? = nil, provisioned: Timestamp?, since: Timestamp?, now: Timestamp
    ) -> Bool {
        guard let schedule else { return false }
        let known = [state.lastSuccess(of: level), state.lastCompletion(of: level), failed].compactMap(\.self)
        let last = known.filter { $0 <= now }.max() ?? [provisioned, since].compactMap(\.self).first { $0 <= now }
        guard let last else { return since == nil }
        return schedule.next(after: last, in: calendar).map { $0 <= now } ?? false
    }

    /// From one snapshot to the next: the least that the schedule has after a time, or else as the level is called.
    private func period(after time: Timestamp) -> Duration {
        guard let schedule else { return level.period }
        let times = sequence(first: time) { schedule.next(after: $0, in: calendar) }.dropFirst().prefix(
            Self.timesLookedAt)
        return zip(times, times.dropFirst()).map { $1 - $0 }.min() ?? level.period
    }

    /// Enough for the gaps within a day and over a weekend.
    private static let timesLookedAt = 16
}

extension SnapshotLevel {
    /// From one snapshot to the next where no schedule says it.
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
