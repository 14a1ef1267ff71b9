import BackupService
import Daemon
import LDAP
import Foundation
import Glibc
import JobCore
import SystemPackage
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The output of commands: complete or an error, without control characters or shell characters of entries.
@Suite struct OutputTests {
    /// Runs a command with its standard output as a line of bash leaves it.
    private func bash(_ line: String, _ arguments: [String]) async throws -> (status: Int32, output: String) {
        let program = try RunningProgram(
            URL(filePath: "/bin/bash"), ["-c", line, "bash", DaemonHarness.program.path] + arguments)
        return (await program.end(), program.output)
    }

    @Test(
        "a command that cannot write standard output ends with an error",
        arguments: ["exec \"$@\" >/dev/full", "exec \"$@\" >&-"],
        [
            ["--help"], ["--version"], ["help", "check"], ["health", "-c", "/nonexistent"],
            ["check", "-c", "/nonexistent"],
            ["check", "--json", "-c", "/nonexistent"], ["sandbox", "status", "--directory", "/nonexistent"],
            ["--generate-completion-script", "bash"],
        ])
    func unwritable(line: String, arguments: [String]) async throws {
        let ended = try await bash(line, arguments)
        #expect(ended.status == 1)
        #expect(ended.output.hasPrefix("prov-backup-rsnapshot: standard output cannot be written: "), "\(ended.output)")
    }

    @Test("lists of accounts and of jobs end with an error there too, with and without --json")
    func lists() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            try await harness.add("3724300")
            #expect(try await harness.command("run", "--once").status == 0)
            for command in [
                ["accounts", "list"], ["accounts", "explain", "3724300"], ["jobs", "list"], ["jobs", "show", "1"],
                ["status"],
            ] {
                for more in [[], ["--json"]] {
                    let arguments = command + more + ["-c", harness.settingsFile.path]
                    #expect(try await bash("exec \"$@\" >/dev/null", arguments).status == 0, "\(arguments)")
                    let ended = try await bash("exec \"$@\" >/dev/full", arguments)
                    #expect(
                        ended.status == 1 && ended.output.contains("No space left on device"), "\(arguments): \(ended)")
                }
            }
        }
    }

    @Test("a closed pipe ends a command without a message, also if SIGPIPE is ignored", arguments: ["-", ""])
    func closedPipe(action: String) async throws {
        // No process has the pipe open for reading when the command begins.
        let line = """
            trap "\(action)" PIPE; d=$(mktemp -d); mkfifo "$d/f"; exec 3<>"$d/f"; exec 4>"$d/f"; exec 3>&-; rm -r "$d"
            "$@" >&4; echo "status $?"
            """
        let ended = try await bash(line, ["--help"])
        #expect(ended.output == "status \(128 + SIGPIPE)\n")
    }

    @Test("commands that follow jobs end when their reader has gone, also while nothing happens")
    func readerGone() async throws {
        try await DaemonHarness.run { harness in
            let waiting = try harness.waiting("waiting.sh", for: "go")
            try harness.settings(backup: "HOME_SCRIPT =\n[Job waiting]\nSCRIPT = \(waiting)")
            let daemon = try await harness.running()
            let job = try await harness.run("waiting")
            try await eventually("it runs") { harness.numbers("waiting.sh").count == 1 }
            // What is printed after the first line may be written before the reader has gone.
            for command in [
                ["jobs", "list", "--follow"], ["jobs", "show", "\(job)", "--follow"],
                ["jobs", "run", "waiting", "--wait"],
                ["status", "--watch"],
            ] {
                let ended = try await bash(
                    "\"$@\" | head -1 >/dev/null; echo ${PIPESTATUS[0]}", command + ["-c", harness.settingsFile.path])
                #expect(ended.output == "\(128 + SIGPIPE)\n", "\(command)")
            }
            try harness.touch("go")
            await harness.stop(daemon)
        }
    }

    @Test(
        "values of entries neither exceed 4,000 characters in a line nor control the terminal, and are cut in the log")
    func hostile() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let value = "\u{202E}\u{9B}" + String(repeating: "x", count: 300_000)
            try await harness.add("3724300", ["sstProvisioningState": value, "host": value])
            for command in [["accounts", "list"], ["accounts", "explain", "3724300"], ["status"], ["check"]] {
                for more in [[], ["--json"]] {
                    let program = try RunningProgram(
                        DaemonHarness.program, command + more + ["-c", harness.settingsFile.path])
                    _ = await program.end()
                    let output = program.output
                    #expect(
                        !output.unicodeScalars.contains { $0 != "\n" && OneLine.mustBeEscaped($0) }, "\(command + more)"
                    )
                    for line in output.split(separator: "\n") {
                        if more.isEmpty { #expect(line.unicodeScalars.count <= OneLine.longest, "\(command)") }
                        // Each value is cut, and an entry has some of them.
                        #expect(line.utf8.count < 40_000, "\(command + more)")
                        if !more.isEmpty { _ = try JSONSerialization.jsonObject(with: Data(line.utf8)) }
                    }
                }
            }
            let explained = try await harness.command("accounts", "explain", "3724300").output
            #expect(explained.contains("… (cut; 300002 characters in all)"), "\(explained.prefix(5_000))")
            let log = try await harness.command("run", "--once").output
            #expect(log.split(separator: "\n").allSatisfy { $0.unicodeScalars.count <= OneLine.longest })
        }
    }

    @Test("JSON escapes control characters, and decoding restores them")
    func json() throws {
        let text = "\u{0}\u{1B}\u{7F}\u{85}\u{9F}\u{202A}\u{2069}\u{200F}\u{61C}\u{2028}\u{E0001}\n\"\\é"
        let line = try jsonLine(["text": text])
        #expect(!line.unicodeScalars.contains(where: OneLine.mustBeEscaped))
        #expect(line.contains(#"\u007f\u0085\u009f\u202a\u2069\u200f\u061c\u2028\udb40\udc01"#))
        #expect(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: String] == ["text": text])
    }

    @Test("hints contain valid uids and quoted DNs only, and never other text of an entry")
    func commands() {
        #expect(AccountCommand.retry.text("3724300") == "prov-backup-rsnapshot accounts retry 3724300")
        #expect(AccountCommand.explain.text("m.muster-2@x").hasSuffix(" explain m.muster-2@x"))
        for uid in ["", "-x", "1; reboot", "$(id)", "a b", "1\n2", "1\u{202E}", "é", String(repeating: "1", count: 65)]
        {
            #expect(AccountCommand.explain.text(uid) == "prov-backup-rsnapshot accounts explain UID")
        }
        #expect(AccountCommand.explain.text("cn=jane,ou=people").hasSuffix(" explain cn=jane,ou=people"))
        #expect(
            AccountCommand.explain.text("cn=O'Hara $(id),ou=a").hasSuffix(#" explain 'cn=O'\''Hara $(id),ou=a'"#))
        let cut = OneLine.value("cn=\(String(repeating: "x", count: 600)),ou=people")
        #expect(AccountCommand.explain.text(cut).hasSuffix(" explain UID"))
    }

    @Test("`sandbox start` keeps changed settings, and writes the new ones to another file")
    func sandbox() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "prov-sandbox-\(UUID().uuidString.prefix(8))")
        defer { try? FileManager.default.removeItem(at: directory) }
        let settings = directory.appending(path: "Rsnapshot.conf")
        func run(_ arguments: String...) async throws -> String {
            let program = try RunningProgram(
                DaemonHarness.program, ["sandbox"] + arguments + ["--directory", directory.path])
            #expect(await program.end() == 0, "\(program.output)")
            return program.output
        }
        func text(_ file: URL) throws -> String { try String(contentsOf: file, encoding: .utf8) }
        #expect(!(try await run("start")).contains("is kept"))
        let first = try text(settings)
        _ = try await run("stop", "--keep-data")
        #expect(!(try await run("start")).contains("is kept"))
        let own = first + "# mine\n"
        try own.write(to: settings, atomically: true, encoding: .utf8)
        _ = try await run("stop", "--keep-data")
        #expect(try await run("start").contains("\(settings.path) was changed and is kept"))
        #expect(try text(settings) == own)
        #expect(try text(URL(filePath: settings.path + ".new")) == first)
        let outside = directory.appendingPathExtension("outside")
        try FileManager.default.createDirectory(at: outside, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: outside) }
        try Data().write(to: outside.appending(path: "file"))
        try FileManager.default.createSymbolicLink(
            at: directory.appending(path: "homes/link"), withDestinationURL: outside)
        _ = try await run("stop", "--keep-data")
        // A stopped sandbox is removed as well.
        _ = try await run("stop")
        #expect(!FileManager.default.fileExists(atPath: directory.path))
        #expect(FileManager.default.fileExists(atPath: outside.appending(path: "file").path))
    }

    @Test(
        "a sandbox writes no mails, runs no script of the machine, sets no quota and has its own history, regardless of the global settings"
    )
    func sandboxAlone() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "prov-sandbox-\(UUID().uuidString.prefix(8))")
        let outside = directory.appendingPathExtension("outside")
        try FileManager.default.createDirectory(at: outside, withIntermediateDirectories: false)
        defer { for path in [directory, outside] { try? FileManager.default.removeItem(at: path) } }
        let program = DaemonHarness.program
        let start = try RunningProgram(program, ["sandbox", "start", "--directory", directory.path])
        #expect(await start.end() == 0, "\(start.output)")
        let hooks = ["Provisioning", "Backup", "Admin"].map {
            "[Hooks \($0)]\nENABLED = yes\nDIRECTORY = \(outside.path)\n"
        }
        let global = outside.appending(path: "Global.conf")
        let text = """
            [Mail]
            SENDTO = operator@example.org
            SENDMAIL = \(outside.path)/sendmail
            [Scripts]
            EVENTS_DIRECTORY = \(outside.path)
            [History]
            FILE = \(outside.path)/history.sqlite
            [Service]
            TYPE = Script
            [Backup]
            QUOTA = setquota
            \(hooks.joined())
            """
        try text.write(to: global, atomically: true, encoding: .utf8)
        let mark = outside.appending(path: "called")
        try "open('\(mark.path)', 'w')\n".write(
            to: outside.appending(path: "DirStartUp.py"), atomically: true, encoding: .utf8)
        for name in ["pre_script.sh", "post_script.sh", "sendmail"] {
            let file = outside.appending(path: name)
            try "#!/bin/sh\ntouch \(mark.path)\n".write(to: file, atomically: true, encoding: .utf8)
            try makeExecutable(file.path)
        }
        let settings = directory.appending(path: "Rsnapshot.conf").path
        let loaded = DaemonConfiguration.load(
            service: FilePath(settings), global: FilePath(global.path), environment: [:])
        let configuration = try #require(loaded.settings, "\(loaded.errors)")
        #expect(configuration.mail.recipients.isEmpty && configuration.backup.quota == .none)
        #expect(configuration.script == nil)

        let daemon = try RunningProgram(program, ["run", "-c", settings, "-g", global.path])
        try await daemon.says("requests are detected")
        daemon.kill(SIGTERM)
        #expect(await daemon.end() == 0)
        #expect(!FileManager.default.fileExists(atPath: mark.path))
        #expect(!FileManager.default.fileExists(atPath: outside.appending(path: "history.sqlite").path))
        let stop = try RunningProgram(program, ["sandbox", "stop", "--directory", directory.path])
        #expect(await stop.end() == 0, "\(stop.output)")
        #expect(!FileManager.default.fileExists(atPath: directory.path))
    }

    @Test("`sandbox stop` removes nothing if no sandbox runs")
    func noSandbox() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "prov-sandbox-\(UUID().uuidString.prefix(8))")
        let precious = directory.appending(path: "homes/precious")
        try FileManager.default.createDirectory(at: precious, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        for path in [directory, directory.appending(path: "removed")] {
            let program = try RunningProgram(DaemonHarness.program, ["sandbox", "stop", "--directory", path.path])
            #expect(await program.end() == 1)
            #expect(program.output.contains("there is no sandbox in \(path.path)"), "\(program.output)")
        }
        #expect(FileManager.default.fileExists(atPath: precious.path))
    }

    @Test("a mistyped command is named, with the one that was meant or else all there are")
    func unknownCommand() async throws {
        let cases = [
            (["stauts"], "did you mean status?"), (["accounts", "lits", "--failed"], "did you mean accounts list?"),
            (["xyzzy"], "there are: run, reload, "), (["jobs", "xyzzy"], "there are: list, "),
        ]
        for (arguments, hint) in cases {
            let program = try RunningProgram(DaemonHarness.program, arguments)
            #expect(await program.end() == 64)
            #expect(program.output.contains(hint) && !program.output.contains("Usage"), "\(program.output)")
        }
        let positional = try RunningProgram(DaemonHarness.program, ["report", "xyzzy"])
        #expect(await positional.end() == 64)
        #expect(!positional.output.contains("there is no command"), "\(positional.output)")
    }

    @Test("`sandbox start` writes nothing to a directory of another user", .enabled(if: geteuid() == 0))
    func strangersSandbox() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "prov-sandbox-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: false)
        defer { try? FileManager.default.removeItem(at: directory) }
        #expect(chown(directory.path, 4_000_001, 4_000_001) == 0)
        let program = try RunningProgram(DaemonHarness.program, ["sandbox", "start", "--directory", directory.path])
        #expect(await program.end() == 78)
        #expect(program.output.contains("chown -h root \(directory.path)"), "\(program.output)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == [])
    }
}
