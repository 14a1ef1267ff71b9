import Foundation
import Glibc
import JobCore
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// Jobs of the whole daemon as its commands tell of them, and scripts for them.
extension DaemonHarness {
    /// Writes a script into the harness's directory.
    /// - Returns: its path.
    func script(_ name: String, _ text: String) throws -> String {
        let file = directory.appending(path: name)
        try FileManager.default.createDirectory(
            at: file.deletingLastPathComponent(), withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o755])
        try "#!/bin/sh\n\(text)\n".write(to: file, atomically: true, encoding: .utf8)
        try makeExecutable(file.path)
        return file.path
    }

    /// Settings with a sendmail that keeps each mail in a file.
    func mailSection() throws -> String {
        let sendmail = try script(
            "sendmail.sh", "cat > \(path("mail.$$.new")); mv \(path("mail.$$.new")) \(path("mail.$$"))")
        return "[Mail]\nSENDTO = admin@example.org\nSENDMAIL = \(sendmail)"
    }

    /// The mails that were sent.
    func mails() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: directory.path)
            .filter { $0.hasPrefix("mail.") && !$0.hasSuffix(".new") }
            .map { try String(contentsOfFile: path($0), encoding: .utf8) }
    }

    /// A script that prints its number, then waits for a file.
    func waiting(_ name: String, for file: String, then last: String = "") throws -> String {
        try script(
            name,
            """
            echo waits
            echo $$ >> \(path("\(name).pids"))
            while [ ! -e \(path(file)) ] && [ -e "$0" ]; do sleep 0.05; done
            \(last)
            """)
    }

    /// The numbers of the processes of such a script, as far as they have begun.
    func numbers(_ name: String) -> [pid_t] {
        let text = (try? String(contentsOf: directory.appending(path: "\(name).pids"), encoding: .utf8)) ?? ""
        return text.split(separator: "\n").compactMap { pid_t($0) }
    }

    func path(_ name: String) -> String { directory.appending(path: name).path }

    func touch(_ name: String) throws { try Data().write(to: directory.appending(path: name)) }

    /// Writes `DirStartUp.py`.
    /// - Returns: the section that names it.
    func handlers(_ python: String, timeout: String = "30s") throws -> String {
        let directory = directory.appending(path: "scripts")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        chmod(directory.path, 0o755)
        let file = directory.appending(path: "DirStartUp.py")
        try python.write(to: file, atomically: true, encoding: .utf8)
        chmod(file.path, 0o644)
        return "[Scripts]\nEVENTS_DIRECTORY = \(directory.path)\nEVENT_TIMEOUT = \(timeout)"
    }

    /// All jobs that a list names, the oldest first.
    func jobs(_ arguments: String..., sourceLocation: SourceLocation = #_sourceLocation) async throws
        -> [Job]
    {
        let program = try RunningProgram(
            Self.program, ["jobs", "list", "--json"] + arguments + ["-c", settingsFile.path])
        #expect(await program.end() == 0, "\(program.output)", sourceLocation: sourceLocation)
        return try program.output.split(separator: "\n").map {
            try JSONDecoder().decode(JobLine.self, from: Data($0.utf8)).job
        }
    }

    func details(_ id: UInt64, sourceLocation: SourceLocation = #_sourceLocation) async throws -> Job {
        let shown = try await command("jobs", "show", "\(id)", "--json")
        #expect(shown.status == 0, "\(shown.output)", sourceLocation: sourceLocation)
        let decoder = JSONDecoder()
        // Output is shown as text.
        decoder.dataDecodingStrategy = .custom {
            Data(try $0.singleValueContainer().decode(String.self).utf8)
        }
        return try decoder.decode(Job.self, from: Data(shown.output.utf8))
    }

    func details(_ id: JobID, sourceLocation: SourceLocation = #_sourceLocation) async throws -> Job {
        try await details(id.number, sourceLocation: sourceLocation)
    }

    @discardableResult
    func ended(_ id: JobID, sourceLocation: SourceLocation = #_sourceLocation) async throws -> Job {
        try await ended(id.number, sourceLocation: sourceLocation)
    }

    /// Waits for a job's end.
    @discardableResult
    func ended(_ id: UInt64, sourceLocation: SourceLocation = #_sourceLocation) async throws -> Job {
        var last: Job?
        try await eventually("job \(id) ends", sourceLocation: sourceLocation) {
            last = try await self.details(id)
            return last?.isOpen == false
        }
        return try #require(last, sourceLocation: sourceLocation)
    }

    /// Submits a job of `[Job NAME]`.
    func run(_ name: String, sourceLocation: SourceLocation = #_sourceLocation) async throws -> UInt64 {
        let asked = try await command("jobs", "run", name)
        let numbers = asked.output.split(separator: "\n").compactMap { UInt64($0) }
        return try #require(numbers.first, "\(asked.output)", sourceLocation: sourceLocation)
    }

    /// The newest job of a type, of an account or of all.
    func newest(_ type: String, of account: String? = nil) async throws -> Job? {
        let lines =
            if let account { try await jobs("--type", type, "--account", account) } else {
                try await jobs("--type", type)
            }
        return lines.last
    }

    /// Writes the state of a daemon that has run until then and whose clock was trusted.
    func wasAlive(at time: Date = Date()) throws {
        let state = directory.appending(path: "state")
        try FileManager.default.createDirectory(
            at: state, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        try "\(Int(time.timeIntervalSince1970))\n0\n"
            .write(to: state.appending(path: "alive"), atomically: true, encoding: .utf8)
    }

    /// A window that opens in about twelve hours.
    static var closedWindow: String {
        let hour = (Calendar.current.component(.hour, from: Date()) + 12) % 24
        return String(format: "%02d:00-%02d:00", hour, (hour + 1) % 24)
    }

    /// Starts the daemon and waits until it serves.
    func running() async throws -> RunningProgram {
        let daemon = try start()
        try await daemon.says("requests are detected")
        return daemon
    }

    /// Whether something read-only, nosuid and nodev is mounted at the account's `.snapshots`.
    func showsSnapshots(of uid: String) -> Bool {
        var status = statvfs()
        let wanted = UInt(ST_RDONLY) | UInt(ST_NOSUID) | UInt(0o4)  // ST_NODEV, which the module does not show.
        return statvfs(home(uid).appending(path: ".snapshots").path, &status) == 0
            && UInt(status.f_flag) & wanted == wanted
    }

    /// A daemon that is killed before one of the changes that it makes to directories from now on, see Tests/CrashPoints.
    /// - Parameter point: 1 for the first.
    func running(crashingAt point: Int) async throws -> RunningProgram {
        let library = Self.program.deletingLastPathComponent().appending(path: "libCrashPoints.so")
        let daemon = try start(
            environment: [
                "LD_PRELOAD": library.path, "PROV_CRASH_AT": "\(point)", "PROV_CRASH_ARMED": path("armed"),
                "PROV_CRASH_COUNT": path("count"),
            ])
        try await daemon.says("requests are detected")
        try touch("armed")
        return daemon
    }

    func disarm() throws { try FileManager.default.removeItem(atPath: path("armed")) }

    func stop(_ daemon: RunningProgram, sourceLocation: SourceLocation = #_sourceLocation) async {
        daemon.kill(SIGTERM)
        #expect(await daemon.end() == 0, "\(daemon.output.suffix(2000))", sourceLocation: sourceLocation)
    }
}

extension Job {
    /// The report as text.
    var reportText: String { report.map(\.text).joined(separator: "\n") }
}

/// Whether a process runs; one that has ended and is not reaped does not.
func isRunning(_ process: pid_t) -> Bool {
    guard let line = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
        let end = line.lastIndex(of: ")")
    else { return false }
    return !["Z", "X"].contains(line[end...].dropFirst(2).prefix(1))
}
