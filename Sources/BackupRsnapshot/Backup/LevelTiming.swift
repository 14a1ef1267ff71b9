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
    func recentSuccess(_ state: SnapshotState, now: WallTime) -> WallTime? {
        guard let success = state.lastSuccess(of: level), success <= now, now - success < period(after: success) / 2
        else { return nil }
        return success
    }

    /// Whether the schedule asks for a snapshot: one of its times lies between the last one and now, and it is not too soon for another.
    ///
    /// What counts as the last one is an orderly end of a job, or an attempt that has failed: a run is made up for once. Times in the future
    /// were recorded while the clock was wrong, and do not count.
    /// - Parameters:
    ///   - provisioned: when the account was added or modified last, for one that has no snapshots yet; nil: not known.
    ///   - since: where nothing else is known, a time of the schedule must lie after it; nil: that is so.
    func isDue(_ state: SnapshotState, provisioned: WallTime?, since: WallTime?, now: WallTime) -> Bool {
        guard let schedule, recentSuccess(state, now: now) == nil else { return false }
        let attempt = state.lastAttempt.flatMap { $0.level == level.rawValue && $0.result != nil ? $0.beganAt : nil }
        let known = [state.lastSuccess(of: level), state.lastCompletion(of: level), attempt].compactMap(\.self)
        let last = known.filter { $0 <= now }.max() ?? [provisioned, since].compactMap(\.self).first { $0 <= now }
        guard let last else { return since == nil }
        return schedule.next(after: last, in: calendar).map { $0 <= now } ?? false
    }

    /// From one snapshot to the next: as the schedule has it after a time, or else as the level is called.
    private func period(after time: WallTime) -> Duration {
        guard let schedule, let first = schedule.next(after: time, in: calendar),
            let second = schedule.next(after: first, in: calendar)
        else { return level.period }
        return second - first
    }
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
