import BackupRsnapshot
import JobCore

extension DaemonConfiguration {
    /// What the settings need of this machine, met or not. Changes nothing.
    /// - Returns: for each what it is about, what was found, and what mends it; nil where nothing is wrong.
    func requirements(now: WallTime) async -> [(subject: String, finding: String, cure: String?)] {
        var found: [(subject: String, finding: String, cure: String?)] = []
        if script == nil {
            found = await BackupRequirements(backup).findings().map { ($0.subject, $0.finding, $0.cure) }
        }
        // Without its pre script the job is left out.
        let needed = Set(HooksSection.types.filter { jobs.policies[$0]?.hooks?.skipsJob ?? false }.map { "\($0) pre script" })
        let lines = await Task.detached { [self] in ScriptLine.all(self, now: now) }.value
        for line in lines where line.state != .off {
            let isNeeded = line.kind == .job || line.kind == .service || needed.contains(line.name)
            if line.state == .missing, !isNeeded { continue }
            let subject = line.kind == .job ? "[Job \(line.name)]" : line.name
            found.append((subject, line.state == .ok ? line.path : line.state.rawValue, line.problem))
        }
        return found
    }
}
