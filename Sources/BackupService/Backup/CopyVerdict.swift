import Glibc
import JobCore

/// What a run of `rsnapshot sync` came to, by what its programs reported and what rsync said: whether the copy may become a snapshot.
///
/// rsnapshot's own exit status is worth nothing here. rsync's is: 0 is a whole copy, 24 one from which files vanished while it was made.
/// 23 may become a snapshot only where every single reason is one that no later try would change; never after an error of disk, quota or
/// memory. Source: rsync(1), EXIT VALUES; specification: snapshots.md#inspection.
enum CopyVerdict: Hashable, Sendable {
    /// Everything that was there was copied.
    /// - note: what is worth reading, or nothing.
    case whole(note: String)
    /// Everything but what this account cannot have copied.
    case partial(warning: String)
    /// The copy must not become a snapshot.
    case failed(JobOutcome)

    init(_ result: ScriptResult, _ reports: CopyReports, _ output: RsyncOutput, command: String) {
        func failed(_ reason: String, _ hint: String) -> CopyVerdict {
            .failed(
                JobOutcome(
                    .failed, failureClass: .permanent, message: "\(reason); \(hint)", termination: result.termination))
        }
        if result.cause == .timeLimit {
            self = failed(
                "the copy reached TIMEOUT and was stopped",
                "the next run continues it after all others; if it never ends, raise TIMEOUT in [Backup Jobs]")
            return
        }
        guard reports.hasEntered else {
            let reason = reports.faults.first ?? Self.lastLine(of: result)
            self = failed(
                "the copy could not be started (\(command)): \(reason)",
                "run: prov-backup-rsnapshot check; if it finds nothing, see the warnings that the daemon logged at its "
                    + "start (its unit may forbid namespaces)")
            return
        }
        guard let end = reports.rsync, reports.faults.isEmpty else {
            let reason = reports.faults.first ?? Self.lastLine(of: result)
            self = failed(
                "rsnapshot did not run rsync to its end (\(result.termination)): \(reason)", Self.hint(output))
            return
        }
        switch end {
        case .exited(0) where output.errors.count == 0:
            self = .whole(note: "")
        case .exited(24) where output.vanished.count > 0 && output.errors.count == 0 && output.uncopied.count == 0:
            self = .whole(note: "files vanished while they were copied: \(output.vanished.text)")
        case .exited(23) where output.uncopied.count > 0 && output.errors.count == 0:
            self = .partial(
                warning: "not everything could be copied: \(output.uncopied.text); "
                    + "check their owners and the length of their names")
        case .exited(let code):
            let reason = output.errors.count > 0 ? output.errors.text : output.uncopied.text
            self = failed(
                "rsync ended with code \(code): \(reason.isEmpty ? "it gave no reason" : reason)", Self.hint(output))
        case .killed(let signal):
            self = failed(
                "rsync was killed by signal \(signal)",
                "if the kernel's log shows out of memory, raise MEMORY in [Backup Jobs]")
        }
    }

    /// What helps, by the system's errors in rsync's lines.
    private static func hint(_ output: RsyncOutput) -> String {
        let hints = [
            (ENOSPC, "the disk is full: make room on the volume, or keep fewer snapshots"),
            (
                EDQUOT,
                "the account's quota is used up, of bytes or of files (QUOTA_FILES): raise sstQuota (it counts the snapshots too), or keep fewer snapshots"
            ),
            (EROFS, "the file system is read-only: check the disk and the kernel's log"),
            (EIO, "the disk fails: see the kernel's log"),
            (ESTALE, "the mount is stale: mount the volume again"),
            (EMLINK, "a file has as many names as the file system allows: the next run copies it anew"),
            (ENOMEM, memoryHint),
        ]
        if let hint = hints.first(where: { output.errors.numbers.contains($0.0) }) { return hint.1 }
        return output.errors.first.contains { $0.contains("out of memory") }
            ? memoryHint : "no snapshot was changed; see the job's output, and run the backup again"
    }

    private static let memoryHint = "memory ran out: raise MEMORY in [Backup Jobs]"

    private static func lastLine(of result: ScriptResult) -> String {
        let text = String(decoding: result.output.head + result.output.tail, as: UTF8.self)
        return text.split(separator: "\n").last.map { String($0.prefix(300)) } ?? "it said nothing"
    }
}
