import Foundation
import Glibc
import JobCore
import SystemPackage
import TestSupport
import Testing

/// A temporary directory with scripts in it, removed with everything inside when the value goes.
final class ScriptDirectory: Sendable {
    let path: FilePath

    init() throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "jobcore-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        // The temporary directory may be a symbolic link: tests of the way to a script count its components.
        path = FilePath(directory.resolvingSymlinksInPath().path(percentEncoded: false))
        #expect(chmod(path.string, 0o755) == 0)
    }

    deinit {
        do { try FileManager.default.removeItem(atPath: path.string) } catch { Issue.record("left behind: \(error)") }
    }

    /// Defines in a script `note NAME PID`; `noted NAME`, which waits for it; and `runs PROGRAM PID`, which waits until a process that was just forked
    /// has taken on its program and with it the name that it is reported by.
    static let note = """
        note() { echo $2 > "$DIR/$1.new"; mv "$DIR/$1.new" "$DIR/$1"; }
        noted() { while [ ! -e "$DIR/$1" ]; do sleep 0.02; done; }
        runs() { while [ "$(cat /proc/$2/comm)" != $1 ]; do sleep 0.02; done; }

        """

    /// Writes a script for /bin/sh, or for the interpreter in its first line.
    func script(_ body: String, name: String = "script.sh", mode: mode_t = 0o755) throws -> FilePath {
        let file = path.appending(name)
        let text = body.hasPrefix("#!") ? body : "#!/bin/sh\n" + body
        try Data(text.utf8).write(to: URL(filePath: file.string))
        try makeExecutable(file.string, mode: mode)
        return file
    }
}

extension ScriptInvocation {
    /// With limits that no test reaches, and a minimal environment for a shell.
    static func test(
        _ executable: FilePath, _ arguments: [String] = [], environment: [String: String] = ["PATH": "/usr/bin:/bin"],
        workingDirectory: FilePath = "/", timeLimit: Duration = .seconds(300), grace: Duration = .seconds(60),
        user: ScriptUser? = nil
    ) -> ScriptInvocation {
        ScriptInvocation(
            executable: executable, arguments: arguments, environment: environment, workingDirectory: workingDirectory,
            timeLimit: timeLimit, grace: grace, user: user)
    }
}

extension ScriptUser {
    /// No user, and also one with a starter where this process may become another user.
    static func withAndWithoutStarter() async throws -> [ScriptUser?] {
        geteuid() == 0 ? [nil, try await named("nobody")] : [nil]
    }
}

extension CapturedOutput {
    /// Everything that was kept.
    var text: String { String(decoding: head + tail, as: UTF8.self) }
    var lines: [Substring] { text.split(separator: "\n") }
}

/// The number that a script has written into a file by `echo $$ > file.new; mv file.new file`.
func processNumber(in file: FilePath) async throws -> pid_t {
    try await eventually("no number in \(file)") { FileManager.default.fileExists(atPath: file.string) }
    let text = try String(contentsOfFile: file.string, encoding: .utf8)
    return try #require(pid_t(text.trimmingCharacters(in: .whitespacesAndNewlines)))
}

/// Whether a process is there and no zombie.
func isAlive(_ process: pid_t) -> Bool { state(of: process).map { $0 != "Z" } ?? false }

/// The letter of a process's state, as in proc(5); nil when it is not there.
func state(of process: pid_t) -> Character? {
    guard let stat = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8) else { return nil }
    return stat[(stat.lastIndex(of: ")") ?? stat.startIndex)...].dropFirst(2).first
}

/// The processes whose environment contains a text, without zombies.
func processes(carrying text: String) throws -> [pid_t] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { process in
        // It may end meanwhile, and other users' environments are not readable.
        guard let environment = FileManager.default.contents(atPath: "/proc/\(process)/environ") else { return false }
        return environment.range(of: Data(text.utf8)) != nil && isAlive(process)
    }
}

/// The processes whose arguments contain a text, without zombies.
func processes(naming text: String) throws -> [pid_t] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { pid_t($0) }.filter { process in
        FileManager.default.contents(atPath: "/proc/\(process)/cmdline")?.range(of: Data(text.utf8)) != nil
    }
}

/// Everything that starts processes runs one test after the other: some of it counts processes and descriptors.
@Suite(.serialized, .timeLimit(.minutes(10))) enum Processes {}
