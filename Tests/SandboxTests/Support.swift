import Sandbox
import EventLoop
import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

/// A directory of its own for one test, removed with all that is in it when the test is over.
func withDirectory<Result>(_ body: (FilePath) async throws -> Result) async throws -> Result {
    let directory = FileManager.default.temporaryDirectory.appendingPathComponent("sandbox-test-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(at: directory) }
    return try await body(FilePath(directory.path))
}

/// How a program ended and what it said.
struct Outcome {
    /// The exit code, or -1 for a signal. The LDAP tools exit with the result code of the operation.
    var code: Int32
    var output: String
    var errors: String
}

/// Runs a program to its end.
func command(_ program: FilePath, _ arguments: [String], input: String = "") async throws -> Outcome {
    let outcome = try await ChildProcess.run(
        ChildProcess.Program(program, arguments, in: "."), input: .bytes(Array(input.utf8)), keeping: 1 << 22)
    let code: Int32 = if case .exited(let code) = outcome.termination { code } else { -1 }
    return Outcome(
        code: code, output: String(decoding: outcome.output, as: UTF8.self),
        errors: String(decoding: outcome.error, as: UTF8.self))
}

/// One of the LDAP tools against a sandbox, with a name and a password.
func ldap(
    _ tool: String, _ sandbox: LDAPSandbox, as dn: String, _ password: String, uri: String? = nil,
    _ arguments: [String], input: String = ""
) async throws -> Outcome {
    try await command(
        FilePath("/usr/bin/\(tool)"),
        ["-x", "-H", uri ?? sandbox.uri, "-D", dn, "-w", password] + arguments, input: input)
}

/// The ids of the processes that name a path in their command line and have not ended.
func processes(naming path: FilePath) throws -> [Int32] {
    try FileManager.default.contentsOfDirectory(atPath: "/proc").compactMap { Int32($0) }.filter { id in
        guard id != getpid(), let bytes = FileManager.default.contents(atPath: "/proc/\(id)/cmdline") else {
            return false
        }
        return String(decoding: bytes, as: UTF8.self).contains(path.string)
    }
}

/// The error of a start that has to fail.
func refusal(
    in directory: FilePath, _ options: SandboxOptions = .testing
) async throws -> SandboxError {
    let started: LDAPSandbox
    do { started = try await LDAPSandbox.start(in: directory, options: options) } catch { return error }
    try await started.stop()
    throw StartedAfterAll()
}

/// A start that should have failed has not.
struct StartedAfterAll: Error {}

/// Waits until no process names a path in its command line any more.
func expectNoProcess(naming path: FilePath, sourceLocation: SourceLocation = #_sourceLocation) async throws {
    try await eventually("no process of \(path) is left", sourceLocation: sourceLocation) {
        try processes(naming: path).isEmpty
    }
}
