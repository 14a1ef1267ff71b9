/// What scripts of an earlier daemon of this instance have left running: it ended without ending them (kill -9, the OOM killer).
///
/// Every program of a job carries in its environment where the instance's scripts report, and so does what it has started. Only where the
/// instance's lock is held is it certain that they are nobody's.
public enum LeftoverScripts {
    /// Ends them: SIGTERM, the grace, SIGKILL until none is left.
    /// - Parameters:
    ///   - socket: the path of the instance's report socket, as jobs get it.
    ///   - users: as whom scripts run besides root and this process's user; environments of other users are not looked into.
    ///   - grace: how long they may take to leave.
    /// - Returns: those that were there, by name and number; one that could not be ended says so.
    public static func end(reportingTo socket: String, users: Set<UInt32> = [], grace: Duration) async -> [String] {
        let marker = ScriptMarker(variable: RunningAttempt.reportSocketVariable, text: socket)
        return await ScriptSession(carrying: marker, users: users).sweep(after: .none, grace: grace.boundedForSleep)
    }
}
