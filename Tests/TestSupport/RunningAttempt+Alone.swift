public import JobCore

extension RunningAttempt {
    /// An attempt of job 17, which stands nowhere else.
    public static func alone(
        _ number: Int = 1, scripts: ScriptRunner = ScriptRunner(), notice: @escaping NoticeHandler = { _ in }
    ) -> RunningAttempt {
        RunningAttempt(
            alone: Job(
                id: JobID(17), type: .provisioning, name: "test", subject: JobSubject("test"), client: "test",
                created: SystemWallClock().now), number: number, runner: scripts, notice: notice)
    }
}
