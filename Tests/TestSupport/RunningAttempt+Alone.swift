public import JobCore

extension RunningAttempt {
    /// An attempt of job 17, which stands nowhere else.
    public static func alone(
        _ number: Int = 1, scripts: ScriptRunner = ScriptRunner(), notice: @escaping NoticeHandler = { _ in }
    ) -> RunningAttempt {
        let clock = SystemWallClock()
        let job = Job(
            id: JobID(17), type: .provisioning, name: "test", subject: JobSubject("test"), client: "test",
            created: clock.now)
        return RunningAttempt(
            job, number: number, token: JobToken(), reportSocket: nil,
            registry: JobRegistry(recorder: NoHistory(), clock: clock), runner: scripts, clock: clock, notice: notice)
    }
}
