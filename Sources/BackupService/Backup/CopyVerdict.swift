import EventLoop
import Glibc
import JobCore

extension SnapshotState.End {
    /// Whether the copy of a run of `rsnapshot sync` may become a snapshot, and how its job ends then, by the exit status of rsync (rsync(1),
    /// EXIT VALUES; specification: snapshots.md#inspection). That of rsnapshot is not reliable here.
    /// - Throws: the failed outcome of a copy that must not become a snapshot.
    init(_ result: ScriptResult, _ reports: CopyReports, _ output: RsyncOutput, command: String) throws(JobOutcome) {
        func failed(_ reason: String, _ hint: String) -> JobOutcome {
            JobOutcome(.failed, failureClass: .permanent, message: "\(reason); \(hint)")
        }
        if result.cause == .timeLimit {
            throw failed(
                "the copy reached TIMEOUT and was stopped",
                "the next run continues it after all others; if it never ends, raise TIMEOUT in [Backup Jobs]")
        }
        let fault = reports.faults.first ?? Self.lastLine(of: result)
        guard reports.hasEntered else {
            throw failed(
                "the copy could not be started (\(command)): \(fault)",
                "run: prov-backup-rsnapshot check; if it finds nothing, see the warnings that the daemon logged at its "
                    + "start (its unit may forbid namespaces)")
        }
        guard let end = reports.rsync, reports.faults.isEmpty else {
            throw failed("rsnapshot did not run rsync to its end (\(result.termination)): \(fault)", Self.hint(output))
        }
        switch end {
        case .exited(code: 0) where output.errors.count == 0:
            self.init(isWhole: true)
        case .exited(code: 24)
        where output.vanished.count > 0 && output.errors.count == 0 && output.uncopied.count == 0:
            self.init(isWhole: true, note: "files vanished while they were copied: \(output.vanished.text)")
        case .exited(code: 23) where output.uncopied.count > 0 && output.errors.count == 0:
            self.init(
                isWhole: false,
                warning: "not everything could be copied: \(output.uncopied.text); "
                    + "check their owners and groups (BACKUP_SANDBOX = root copies those of others), their ACLs and the length of their names"
            )
        case .exited(code: 23) where output.changed.count > 0 && output.errors.count == 0:
            self.init(
                isWhole: true,
                note: "files changed while they were copied, and were copied again: \(output.changed.text)")
        case .exited(let code):
            let reason = output.errors.count > 0 ? output.errors.text : output.uncopied.text
            throw failed(
                "rsync ended with code \(code): \(reason.isEmpty ? "it gave no reason" : reason)", Self.hint(output))
        case .signaled(let signal):
            throw failed(
                "rsync was killed by signal \(signal)",
                "if the kernel's log shows out of memory, raise MEMORY in [Backup Jobs]")
        case .unknown: throw failed("rsync ended with \(end)", Self.hint(output))
        }
    }

    static let quotaHint =
        "the account's quota is used up, of bytes or of files (QUOTA_FILES): raise sstQuota (it counts the snapshots too), or keep fewer snapshots"

    /// What helps against the system's errors in rsync's messages.
    private static func hint(_ output: RsyncOutput) -> String {
        let memory = "memory ran out: raise MEMORY in [Backup Jobs]"
        let hints = [
            (ENOSPC, "the disk is full: make room on the volume, or keep fewer snapshots"),
            (EDQUOT, quotaHint),
            (EROFS, "the file system is read-only: check the disk and the kernel's log"),
            (EIO, "the disk fails: see the kernel's log"),
            (ESTALE, "the mount is stale: mount the volume again"),
            (EMLINK, "a file has as many names as the file system allows: the next run makes a new copy of it"),
            (ENOMEM, memory),
        ]
        if let hint = hints.first(where: { output.errors.numbers.contains($0.0) }) { return hint.1 }
        return output.errors.first.contains { $0.contains("out of memory") }
            ? memory : "no snapshot was changed; see the job's output, and run the backup again"
    }

    private static func lastLine(of result: ScriptResult) -> String {
        let text = String(decoding: result.output.head + result.output.tail, as: UTF8.self)
        return text.split(separator: "\n").last.map { String($0.prefix(300)) } ?? "there was no output"
    }
}

/// The reports of the sandbox and of `prov-backup-confine` about a run.
struct CopyReports: Hashable, Sendable {
    /// Whether the program was started; its output counts only then.
    private(set) var hasEntered = false
    /// How rsync ended; of several runs the worst; nil: it did not run, or was killed with its parent.
    private(set) var rsync: TerminationStatus?
    /// Errors of the helper.
    private(set) var faults: [String] = []

    /// - Parameter bytes: the output on the descriptors of reports; lines of bubblewrap are ignored.
    init(_ bytes: [UInt8]) {
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") {
            let words = line.split(separator: " ").map(String.init)
            switch (words.first, words.count) {
            case ("entered", 1): hasEntered = true
            case ("fault", 2...): faults.append(words.dropFirst().joined(separator: " "))
            case ("rsync", 3):
                guard let number = Int32(words[2]) else { continue }
                switch (words[1], rsync) {
                case ("killed", _): rsync = .signaled(number: number)
                case ("exited", nil), ("exited", .exited(code: 0)): rsync = .exited(code: number)
                default: break
                }
            default: break
            }
        }
    }
}

/// The messages of rsync that tell why files were not copied.
///
/// It reads the output in pieces of any size. File names are chosen by the customer: rsync escapes line feeds in them, and the reason follows the
/// name, so that neither the beginning nor the end of a line can be forged. All messages are counted and a few of each kind are kept.
struct RsyncOutput: Sendable {
    /// Messages of one kind.
    struct Lines: Hashable, Sendable {
        private(set) var count = 0
        private(set) var first: [String] = []
        /// The system's error numbers in all messages.
        private(set) var numbers: Set<Int32> = []

        fileprivate mutating func add(_ line: String, _ number: Int32?) {
            count += 1
            if first.count < RsyncOutput.mostKept { first.append(RsyncOutput.shortened(line)) }
            if let number { numbers.insert(number) }
        }

        var text: String {
            first.joined(separator: "; ") + (count > first.count ? "; and \(count - first.count) more" : "")
        }
    }

    fileprivate static let mostKept = 5
    /// A path has at most 4,096 bytes, each escaped by five; longer lines are cut.
    private static let longestLine = 24 * 1024
    /// The longest line that is kept whole, in bytes; the middle of others, in the file name, is left out.
    private static let longestKept = 300

    /// Files that vanished before they were copied.
    var vanished = Lines()
    /// Files that are not in the copy, and that the next attempt would not copy either: unreadable, too long a name, another owner, an ACL for another
    /// user; or that kept changing.
    var uncopied = Lines()
    /// Files that became shorter while they were copied. rsync copies them again at its end; if that fails too, it also reports that.
    var changed = Lines()
    /// All other errors: disk, quota, memory, unknown.
    var errors = Lines()
    /// Names in the copy, by rsync's own count (`--stats`); nil: unknown.
    private(set) var names: UInt64?

    private var line: [UInt8] = []

    mutating func read(_ bytes: some Sequence<UInt8>) {
        for byte in bytes {
            if byte == UInt8(ascii: "\n") {
                end()
            } else if line.count < Self.longestLine {
                line.append(byte)
            }
        }
    }

    /// Ends a line; to be called at the end of the output, too.
    mutating func end() {
        defer { line.removeAll(keepingCapacity: true) }
        guard !line.isEmpty else { return }
        let text = String(decoding: line, as: UTF8.self)
        let number = Self.errno(of: text)
        if let kind = Self.kind(of: text) {
            self[keyPath: kind].add(text, number)
        } else if let count = Self.count(in: text) {
            names = (names ?? 0) &+ count
        }
    }

    private static func count(in line: String) -> UInt64? {
        let label = "Number of files: "
        guard line.hasPrefix(label) else { return nil }
        return UInt64(line.dropFirst(label.count).prefix { $0 != " " })
    }

    /// Whether the disk or a quota was full.
    var hasLackedRoom: Bool { !errors.numbers.isDisjoint(with: [ENOSPC, EDQUOT]) }

    private static func shortened(_ line: String) -> String {
        guard line.count > longestKept else { return line }
        return "\(line.prefix(longestKept / 2))…\(line.suffix(longestKept / 2))"
    }

    /// Whether a directory lies deeper than rsync 3.5 goes: 1,024 levels, some of which are above what is copied. It calls that a lack of memory.
    private static func isTooDeep(_ line: String) -> Bool {
        operation(of: line).hasSuffix("] opendir ") && line.utf8.count { $0 == UInt8(ascii: "/") } > 1_000
    }

    /// Where a line counts; nil: it is no error.
    static func kind(of line: String) -> WritableKeyPath<Self, Lines>? {
        if line.hasPrefix("file has vanished: ") || line.hasPrefix("directory has vanished: ") { return \.vanished }
        if line.hasPrefix("ERROR: "), line.hasSuffix(" failed verification -- update discarded.") { return \.uncopied }
        if ["ERROR: ", "could not make way for "].contains(where: line.hasPrefix) { return \.errors }
        // The whole path is longer than PATH_MAX.
        let tooLong = [
            "filename overflows max-path len by ", "cannot send long-named file ", "skipping overly long name: ",
        ]
        if tooLong.contains(where: line.hasPrefix) { return \.uncopied }
        guard line.hasPrefix("rsync: ") else { return nil }
        switch errno(of: line) {
        case ENOENT, EACCES, ENAMETOOLONG, ELOOP: return \.uncopied
        // The end of the file came early.
        case ENODATA where operation(of: line).hasSuffix("] read errors mapping "): return \.changed
        // Replaced by a directory, a socket or a device since the directory was read.
        case EISDIR where isOpening(line), ENXIO where isOpening(line), ENOTDIR where isOpening(line): return \.uncopied
        case ENOMEM where isTooDeep(line): return \.uncopied
        case EPERM where isOwnersRight(line), EINVAL where isOwnersRight(line): return \.uncopied
        default: return \.errors
        }
    }

    /// The error number in parentheses at the end of a message.
    private static func errno(of line: String) -> Int32? {
        guard line.hasSuffix(")"), let open = line.lastIndex(of: "(") else { return nil }
        return Int32(line[line.index(after: open)...].dropLast())
    }

    /// Whether rsync tried what only root or the file's owner may do, or what names a user that does not exist in the sandbox (EINVAL): to change an
    /// owner, to make a device, to set an ACL, or, with --open-noatime, to open a file.
    ///
    /// The operation comes before the name, `rsync: [receiver] chown "name" failed: …` or `rsync: [receiver] set_acl: xacl_set(name, …): …`, so
    /// that no name can forge it.
    private static func isOwnersRight(_ line: String) -> Bool {
        if line.hasPrefix("rsync: ["), let role = line.firstIndex(of: "]"), line[role...].hasPrefix("] set_acl: ") {
            return true
        }
        let operation = operation(of: line)
        return isOpening(line) || ["chown ", "chgrp ", "lchown ", "mknod "].contains(where: operation.hasSuffix)
    }

    /// Whether rsync tried to open a file to copy it.
    private static func isOpening(_ line: String) -> Bool {
        operation(of: line).hasSuffix("] send_files failed to open ")
    }

    /// What comes before the name; empty if there is no name in quotes.
    private static func operation(of line: String) -> Substring { line.firstIndex(of: "\"").map { line[..<$0] } ?? "" }
}
