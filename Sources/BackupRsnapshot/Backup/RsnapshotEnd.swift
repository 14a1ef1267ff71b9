import JobCore
import SystemPackage

/// What the end of a run of rsnapshot means for the backup, and what mends it: read from its exit code and its output.
///
/// A failed run has already passed snapshots on, and another would drop one more for nothing: so only a lock that was taken, which rsnapshot
/// finds before it touches anything, is worth another try without anybody's doing.
struct RsnapshotEnd {
    let result: ScriptResult
    let reading: ExitReading
    let command: String
    /// The account's lock file, and who holds it if somebody does; nil when nobody was asked.
    var lock: (file: FilePath, holder: String)?

    /// Whether rsnapshot found that another one is at work for the account.
    static func foundLock(_ result: ScriptResult) -> Bool {
        result.termination == .exited(code: 1) && text(of: result).contains("exists and so does its process")
    }

    var outcome: JobOutcome {
        switch (result.cause, result.termination, reading.result) {
        case (.timeLimit, _, _):
            return outcome("\(command) was ended after its time limit", "see what it waited for, or raise TIMEOUT")
        case (_, .signaled, _):
            return outcome(
                "\(command) was killed by \(result.termination)",
                "see who killed it; the kernel's log tells whether memory ran out")
        case (_, _, .success): return .success
        case (_, _, .warnings):
            return JobOutcome(reading, message: "rsnapshot warns: \(said("WARNING: "))")
        default: break
        }
        if let lock {
            return JobOutcome(
                reading.result, failureClass: .retryable,
                message: "another rsnapshot works for the account: \(lock.file) is held by \(lock.holder); "
                    + "wait for its end, or remove the file if that process is no rsnapshot",
                termination: result.termination)
        }
        let text = Self.text(of: result)
        for (words, reason, cure) in Self.shortages where text.contains(words) {
            return outcome("\(command) failed: \(reason): \(firstLine(with: words))", cure)
        }
        return outcome("\(command) failed (\(result.termination)): \(said("ERROR: "))", "mend what its output names")
    }

    private static let shortages = [
        (
            "No space left on device", "the disk is full",
            "make room on the volume, or keep fewer snapshots; then run the backup again"
        ),
        (
            "Disk quota exceeded", "the quota is used up",
            "raise the quota, which counts the snapshots too, or keep fewer of them; then run the backup again"
        ),
        ("Read-only file system", "the file system is read-only", "look at the disk and at the kernel's log"),
    ]

    private func outcome(_ reason: String, _ cure: String) -> JobOutcome {
        JobOutcome(
            .failed, failureClass: .permanent, message: "\(reason); \(cure)", termination: result.termination)
    }

    /// The lines of the output that begin so, or else its last one; short enough for a message.
    private func said(_ mark: String) -> String {
        let lines = Self.text(of: result).split(separator: "\n")
        let marked = lines.filter { $0.hasPrefix(mark) }.map { $0.dropFirst(mark.count) }
        let chosen = marked.isEmpty ? lines.suffix(1) : marked[...]
        return String(chosen.joined(separator: "; ").prefix(500))
    }

    private func firstLine(with words: String) -> String {
        let line = Self.text(of: result).split(separator: "\n").first { $0.contains(words) } ?? ""
        return String(line.prefix(500))
    }

    private static func text(of result: ScriptResult) -> String {
        String(decoding: result.output.head + result.output.tail, as: UTF8.self)
    }
}

extension RsnapshotEnd {
    /// The living process that a lock file names; nil: nobody holds it.
    static func livingHolder(of lock: FilePath) -> String? {
        do {
            let line = try SmallFile.text(at: lock).prefix { !$0.isNewline }
            guard let number = EntryReader.decimal(String(line)) else { return nil }
            let name = try SmallFile.text(at: FilePath("/proc/\(number)/comm")).prefix { !$0.isNewline }
            return "process \(number) (\(name))"
        } catch {
            // No such file, or no such process.
            return nil
        }
    }

    /// Who holds a lock file, as far as it can be told: rsnapshot writes its process's number there.
    static func holder(of lock: FilePath) -> String {
        do {
            let line = try SmallFile.text(at: lock).prefix { !$0.isNewline }
            guard let number = EntryReader.decimal(String(line)) else { return "nobody that its text names" }
            let name = try SmallFile.text(at: FilePath("/proc/\(number)/comm")).prefix { !$0.isNewline }
            return "process \(number) (\(name))"
        } catch {
            return "a process that has gone meanwhile"
        }
    }
}
