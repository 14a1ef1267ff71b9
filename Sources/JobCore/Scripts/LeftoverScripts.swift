import EventLoop

/// What scripts of an earlier daemon of this instance have left running: it ended without ending them (kill -9, the OOM killer).
///
/// The cgroup of a job's program has the instance in its name. Besides, every program of a job carries in its environment where the instance's scripts
/// report, and so does what it has started. An init process (``ScriptInit``) that has outlived its daemon needs nobody: it ends what its script leaves
/// and then itself. Only where the instance's lock is held is it certain that they are nobody's.
public enum LeftoverScripts {
    /// Ends them: SIGTERM, the grace, SIGKILL until none is left.
    /// - Parameters:
    ///   - socket: the path of the instance's report socket, as jobs get it.
    ///   - users: as whom scripts run besides root and this process's user; environments of other users are not looked into.
    ///   - grace: how long they may take to leave.
    /// - Returns: those that were there, by name and number; one that could not be ended says so.
    public static func end(reportingTo socket: String, users: Set<UInt32> = [], grace: Duration) async -> [String] {
        let grace = grace.boundedForSleep
        let cgroups = await BlockingWork.run { (try? CgroupParent.own.get())?.left(by: socket) ?? [] }
        var ended: [String] = []
        for cgroup in cgroups {
            ended += await ScriptSession(leader: nil, extent: .cgroup(cgroup)).sweep(after: .none, grace: grace)
            await BlockingWork.run { CgroupParent.remove(cgroup) }
        }
        let marker = ScriptMarker(variable: RunningAttempt.reportSocketVariable, text: socket)
        return ended + (await ScriptSession(carrying: marker, users: users).sweep(after: .none, grace: grace))
    }

    /// What of a script can outlive it unseen, and why: there is no cgroup for each. nil: nothing can. It blocks when it is first asked.
    package static var escape: String? {
        guard case .failure(let obstacle) = CgroupParent.own else { return nil }
        let forks = ScriptInit.canListChildren ? "" : "starts processes faster than they can be listed, or "
        return """
            a script that \(forks)kills its parent process (\(ScriptInit.name)), which one that runs as the daemon's own user can, \
            may leave processes running: \(obstacle)
            """
    }
}
