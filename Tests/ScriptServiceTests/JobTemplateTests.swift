import Foundation
import JobCore
import SystemPackage
import Testing

/// The templates for jobs of a site's own.
@Suite struct JobTemplateTests {
    private static let names = ["server_backup.sh", "client_backup.sh"]
    private static let directory = repository.pushing("etc/Provisioning/Backup")

    private func template(_ name: String) -> FilePath { Self.directory.appending(name + ".template") }
    private func text(_ name: String) throws -> String {
        try String(contentsOfFile: template(name).string, encoding: .utf8)
    }

    private func run(_ executable: FilePath, _ arguments: [String] = [], path: String = "/usr/bin:/bin") async throws
        -> ScriptResult
    {
        try await ScriptRunner().run(
            ScriptInvocation(
                executable: executable, arguments: arguments, environment: ["PATH": path], timeLimit: .seconds(60),
                grace: .seconds(1)))
    }

    /// Follows the header's instructions; returns the path of the enabled script. `body` replaces the command that does nothing.
    private func enable(_ name: String, in directory: TestDirectory, body: String = ":") throws -> FilePath {
        let enabled = try text(name).replacing(#/(?m)^    :$/#, with: "    " + body)
        return try directory.write(enabled, to: name, mode: 0o755)
    }

    /// Makes a replacement of the reporter that records its arguments, in a directory for PATH.
    private func reporter(in directory: TestDirectory, status: Int = 0) throws -> String {
        _ = try directory.script("echo \"$*\" >> $directory/reports; exit \(status)", name: "prov-backup-rsnapshot")
        return "\(directory.path):/usr/bin:/bin"
    }

    @Test("L7 a template is not executable, so that it is refused wherever it is named", arguments: names)
    func neverExecuted(name: String) throws {
        let attributes = try FileManager.default.attributesOfItem(atPath: template(name).string)
        #expect((attributes[.posixPermissions] as? Int).map { $0 & 0o111 } == 0)
        #expect(throws: FileTrustError.self) { try FileTrust.check(template(name)) }
    }

    @Test(
        "L7 a template's header says how to enable it, and that others must not be able to write it", arguments: names)
    func head(name: String) throws {
        let head = try text(name).split(separator: "\n").prefix { $0.hasPrefix("#") }.joined(separator: "\n")
        for line in [
            "cp \(name).template \(name)", "chown root:root \(name)", "chmod 0755 \(name)",
            "[Job \(name.dropLast(3))]", "SCRIPT = /etc/Provisioning/Backup/\(name)", "NOT BE WRITABLE BY OTHERS",
        ] {
            #expect(head.contains(line), "\(line)")
        }
    }

    @Test("L7 a template is a script that a shell can read", arguments: names)
    func syntax(name: String) async throws {
        let result = try await run("/bin/sh", ["-n", template(name).string])
        #expect(result.termination == .exited(code: 0), "\(result.outputTail)")
    }

    @Test("L7 a copy that is enabled as its header says is trusted, and exits with 0", arguments: names)
    func enabled(name: String) async throws {
        let directory = try TestDirectory()
        let script = try enable(name, in: directory)
        _ = try FileTrust.check(script)
        let result = try await run(script, path: reporter(in: directory))
        #expect(result.termination == .exited(code: 0), "\(result.outputTail)")
        if name.hasPrefix("client") {
            #expect(try directory.text("reports") == "report -r\nreport -p 50\nreport -f 0\n")
        }
    }

    @Test("L7 a command that fails ends the job with its code, and the client's is reported as well", arguments: names)
    func failure(name: String) async throws {
        let directory = try TestDirectory()
        let script = try enable(name, in: directory, body: "(exit 3)")
        let result = try await run(script, path: reporter(in: directory))
        #expect(result.termination == .exited(code: 3), "\(result.outputTail)")
        if name.hasPrefix("client") { #expect(try directory.text("reports") == "report -r\nreport -f 3\n") }
    }

    @Test("L7 a failed report does not fail the backup")
    func unreachable() async throws {
        let directory = try TestDirectory()
        let script = try enable("client_backup.sh", in: directory)
        let result = try await run(script, path: reporter(in: directory, status: 69))
        #expect(result.termination == .exited(code: 0), "\(result.outputTail)")
        #expect(try directory.text("reports") == "report -r\nreport -p 50\nreport -f 0\n")
    }
}
