import Daemon
import Foundation
import Glibc
import SystemPackage
import TestSupport
import Testing

/// The findings of `check` about jobs and their scripts.
@Suite struct CheckTests {
    private static func script(_ url: URL, mode: mode_t = 0o755) throws {
        try FileManager.default.createDirectory(
            at: url.deletingLastPathComponent(), withIntermediateDirectories: true,
            attributes: [.posixPermissions: 0o755])
        try "#!/bin/sh\n".write(to: url, atomically: true, encoding: .utf8)
        chmod(url.path, mode)
    }

    /// Settings with mail, handlers and hooks below the harness's directory, and further settings of the test.
    private static func settings(_ harness: DaemonHarness, _ more: String) throws {
        let path = harness.directory.path
        try harness.settings(
            backup: """
                HOME_SCRIPT =
                [Mail]
                SENDTO = operator@example.org
                SENDMAIL = \(path)/sendmail
                [Scripts]
                EVENTS_DIRECTORY = \(path)/events
                [Hooks Backup]
                ENABLED = yes
                DIRECTORY = \(path)/hooks
                [Job nightly]
                SCRIPT = \(path)/nightly.sh
                \(more)
                """)
    }

    @Test("`check` is content with pre and post scripts, jobs, handlers, mail and a history that are as they should be")
    func good() async throws {
        try await DaemonHarness.run { harness in
            for name in ["hooks/pre_script.sh", "hooks/post_script.sh", "nightly.sh", "sendmail"] {
                try Self.script(harness.directory.appending(path: name))
            }
            try Self.script(harness.directory.appending(path: "events/DirStartUp.py"), mode: 0o644)
            let path = harness.directory.path
            try Self.settings(harness, "RUN_AS = nobody")
            let fresh = try await harness.command("check")
            #expect(fresh.status == 0, "\(fresh.output)")
            for part in [
                "ok    Backup pre script: \(path)/hooks/pre_script.sh", "ok    Backup post script: ",
                "ok    [Job nightly]: \(path)/nightly.sh", "ok    [Job nightly] RUN_AS: nobody is user ",
                "ok    event handlers: \(path)/events/DirStartUp.py", "ok    python3: ", "ok    SENDMAIL: ",
                "history.sqlite does not exist yet: the daemon creates it",
            ] { #expect(fresh.output.contains(part), "\(part) is missing in:\n\(fresh.output)") }
            #expect(!fresh.output.contains("Admin pre script"), "what is off is not looked at")

            #expect(try await harness.command("accounts", "retry", "--all").output == "no account has failed\n")
            #expect(try await harness.command("run", "--once").status == 0)
            let before = try harness.tree(harness.directory)
            let later = try await harness.command("check")
            #expect(later.status == 0, "\(later.output)")
            #expect(later.output.contains("ok    history: \(path)/state/history.sqlite"), "\(later.output)")
            #expect(try harness.tree(harness.directory) == before, "it changes nothing")
        }
    }

    @Test(
        "`check` names accounts without a configuration or home, and configurations of accounts that are not listed; `explain` says what to do"
    )
    func disk() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(
                backup: "HOME_SCRIPT =\n[Backup Jobs]\nDAILY = 0 3 * * *\nWEEKLY = 0 3 * * 1\nMONTHLY = 0 3 1 * *")
            let uids = ["3724300", "3724301", "3724302", "3724303"]
            for uid in uids { try await harness.add(uid) }
            #expect(try await harness.command("run", "--once").status == 0)
            func explained(_ uid: String) async throws -> String? {
                let output = try await harness.command("accounts", "explain", uid, "--json").output
                return try (JSONSerialization.jsonObject(with: Data(output.utf8)) as? [String: Any])?["cure"] as? String
            }
            let good = try await harness.command("check")
            #expect(good.status == 0 && good.output.contains("ok    homes: "), "\(good.output)")
            #expect(try await explained("3724301")?.contains("systemctl start") == true, "no daemon runs")

            try FileManager.default.removeItem(at: harness.configuration("3724301"))
            try FileManager.default.moveItem(at: harness.home("3724302"), to: harness.directory.appending(path: "away"))
            try await harness.manager.delete(DaemonHarness.dn("3724303"))
            let check = try await harness.command("check")
            #expect(check.status == 1, "\(check.output)")
            for (beginning, uid) in [
                ("NOT   RSNAPSHOT_CONFIG_DIRECTORY: ", "3724301"), ("NOT   homes: ", "3724302"),
                ("warn  RSNAPSHOT_CONFIG_DIRECTORY: ", "3724303"),
            ] {
                let lines = check.output.split(separator: "\n").filter { $0.hasPrefix(beginning) }
                #expect(lines.count == 1 && lines[0].contains("1 account (\(uid))"), "\(check.output)")
            }
            #expect(try await explained("3724301")?.contains("sstProvisioningMode: modify") == true)
            #expect(try await explained("3724302")?.contains("mount its volume") == true)

            // A request that waits makes it, and an account that is not in use needs none.
            try await harness.request("3724301", "modify", ["sstProvisioningExecutionDate": "20991231"])
            let waiting = try await harness.command("check")
            #expect(!waiting.output.contains("NOT   RSNAPSHOT_CONFIG_DIRECTORY: "), "\(waiting.output)")
        }
    }

    @Test("`check` finds all that is wrong with them at once, each with its hint, and ends with 1")
    func bad() async throws {
        try await DaemonHarness.run { harness in
            let path = harness.directory.path
            try Self.script(harness.directory.appending(path: "hooks/pre_script.sh"))
            try Self.script(harness.directory.appending(path: "nightly.sh"), mode: 0o777)
            try Self.script(harness.directory.appending(path: "events/DirStartUp.py"), mode: 0o666)
            try Data("no history\n".utf8).write(to: harness.directory.appending(path: "history.sqlite"))
            try Self.settings(
                harness,
                """
                RUN_AS = prov-no-such-user
                [History]
                FILE = \(path)/history.sqlite
                [Hooks Admin]
                ENABLED = yes
                DIRECTORY = \(path)/absent
                [Job missing]
                SCRIPT = \(path)/missing.sh
                """)
            let checked = try await harness.command("check")
            #expect(checked.status == 78, "as the start")
            let wrong = checked.output.split(separator: "\n").filter { $0.hasPrefix("NOT ") }
            for (subject, words) in [
                ("Backup post script", "ENABLED = no"), ("Admin pre script", "namei -l"),
                ("[Job nightly]", "chmod go-w"), ("[Job nightly] RUN_AS", "getent passwd"),
                ("[Job missing]", "missing.sh"), ("event handlers", "chmod go-w"), ("SENDMAIL", "mail transport"),
                ("history", "renames a damaged history"),
            ] {
                let line = wrong.first { $0.hasPrefix("NOT   \(subject): ") }
                #expect(line?.contains(words) == true, "\(subject) is missing in:\n\(checked.output)")
            }
            #expect(!wrong.contains { $0.contains("Backup pre script") }, "\(checked.output)")
        }
    }

    /// The paths that others could change, below the test's directory.
    @Test(
        "`check` and the start refuse alike what others could change, run nothing, and the command that they name fixes it",
        arguments: [
            ("Rsnapshot.conf", "settings"), ("password", "settings"), ("ca.pem", "settings"),
            ("account.template", "RSNAPSHOT_TEMPLATE"), ("bin/rsnapshot", "RSNAPSHOT"), ("sendmail", "SENDMAIL"),
            ("home.sh", "HOME_SCRIPT"), ("nightly.sh", "[Job nightly]"), ("hooks/pre_script.sh", "Backup pre script"),
            ("events/DirStartUp.py", "event handlers"), ("events/helper.py", "event handlers"),
            ("events/package", "event handlers"), ("above", "STATE_DIRECTORY"), ("above/run", "RUNTIME_DIRECTORY"),
            ("homes", "HOME_ROOTS"), ("rsnapshot.d", "RSNAPSHOT_CONFIG_DIRECTORY"),
            ("past", "[History] FILE"), ("our-rsync", "cmd_rsync"), ("patterns", "include_file or exclude_file"),
        ])
    func trust(name: String, subject: String) async throws {
        try await DaemonHarness.run { harness in
            try Self.trusted(harness)
            let fine = try await harness.command("check")
            #expect(fine.status == 0, "\(fine.output)")
            #expect(fine.output.contains("ok    permissions: "), "\(fine.output)")
            try FileManager.default.removeItem(at: harness.directory.appending(path: "ran"))

            let path = harness.directory.appending(path: name).path
            var before = stat()
            #expect(stat(path, &before) == 0)
            chmod(path, before.st_mode & 0o7777 | 0o002)
            let checked = try await harness.command("check")
            let started = try await harness.command("run", "--once")
            for (status, output) in [checked, started] {
                #expect(status == 78, "\(output)")
                #expect(output.contains("chmod go-w \(path)"), "\(output)")
                #expect(output.contains("mode 0"), "\(output)")
            }
            #expect(checked.output.contains("NOT   \(subject): "), "\(checked.output)")
            #expect(
                !FileManager.default.fileExists(atPath: harness.directory.appending(path: "ran").path),
                "rsnapshot has run")

            let fixed = try RunningProgram(URL(filePath: "/bin/sh"), ["-c", "chmod go-w '\(path)'"])
            #expect(await fixed.end() == 0)
            let again = try await harness.command("run", "--once")
            #expect(again.status == 0, "\(again.output)")
        }
    }

    /// Settings in which everything that is run or believed lies below the harness's directory.
    private static func trusted(_ harness: DaemonHarness) throws {
        let path = harness.directory.path
        for name in ["home.sh", "nightly.sh", "sendmail", "our-rsync", "hooks/pre_script.sh", "hooks/post_script.sh"] {
            try script(harness.directory.appending(path: name))
        }
        try script(harness.directory.appending(path: "bin/rsnapshot"))
        try "#!/bin/sh\ntouch \(path)/ran\necho rsnapshot 1.4.4\n"
            .write(toFile: "\(path)/bin/rsnapshot", atomically: false, encoding: .utf8)
        try makeExecutable("\(path)/bin/rsnapshot")
        for name in ["events/package", "above/run", "past"] {
            try FileManager.default.createDirectory(
                atPath: "\(path)/\(name)", withIntermediateDirectories: true, attributes: [.posixPermissions: 0o755])
        }
        for name in ["events/DirStartUp.py", "events/helper.py", "ca.pem", "patterns"] {
            try Data().write(to: harness.directory.appending(path: name))
        }
        let template = try String(
            contentsOfFile: "\(DaemonHarness.checkout.path)/etc/Provisioning/Backup/rsnapshot-account.conf.template",
            encoding: .utf8)
        try (template.replacing("%RSYNC%", with: "\(path)/our-rsync") + "exclude_file\t\(path)/patterns\n")
            .write(toFile: "\(path)/account.template", atomically: false, encoding: .utf8)
        try FileManager.default.copyItem(
            atPath: harness.sandbox.daemonPasswordFile.string, toPath: "\(path)/password")
        try harness.settings(
            database: "ADMIN_PASSWORD_FILE = \(path)/password\nTLS_CA_FILE = \(path)/ca.pem",
            service: "STATE_DIRECTORY = \(path)/above/state\nRUNTIME_DIRECTORY = \(path)/above/run",
            backup: """
                HOME_SCRIPT = \(path)/home.sh
                RSNAPSHOT = \(path)/bin/rsnapshot
                RSNAPSHOT_TEMPLATE = \(path)/account.template
                [Mail]
                SENDTO = operator@example.org
                SENDMAIL = \(path)/sendmail
                [Scripts]
                EVENTS_DIRECTORY = \(path)/events
                [Hooks Backup]
                ENABLED = yes
                DIRECTORY = \(path)/hooks
                [Job nightly]
                SCRIPT = \(path)/nightly.sh
                [History]
                FILE = \(path)/past/history.sqlite
                """)
    }

    @Test("`check` warns if it cannot ask the running daemon whether it has loaded the event handlers")
    func unansweredHandlers() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: "HOME_SCRIPT =\n\(try harness.handlers("import bacula\n"))")
            let runtime = FilePath(harness.directory.appending(path: "run").path)
            try RuntimeDirectory.prepare(runtime)
            let server = try await ControlServer(under: try InstanceLock(in: runtime)) { _ in
                .refusal(CommandFailure("too busy", hint: "wait"))
            }
            let checked = try await harness.command("check")
            await server.stop()
            #expect(
                checked.output.contains(
                    "warn  event handlers: it is unknown whether the daemon has loaded \(harness.directory.path)/scripts/DirStartUp.py: "
                        + "too busy; wait"), "\(checked.output)")
            #expect(checked.output.contains("NOT   daemon: too busy"), "\(checked.output)")
        }
    }

    @Test("with TYPE = Script `check` looks at its scripts and not at [Backup]")
    func scriptService() async throws {
        try await DaemonHarness.run { harness in
            let path = harness.directory.path
            try Self.script(harness.directory.appending(path: "add.sh"))
            func settings(_ script: String) throws {
                try harness.settings(
                    service: "TYPE = Script",
                    backup: "RSNAPSHOT = /nonexistent\n[Script]\nADD = \(path)/add.sh\n\(script)")
            }
            try settings("")
            let good = try await harness.command("check")
            #expect(good.status == 0, "\(good.output)")
            #expect(good.output.contains("ok    [Script] ADD: \(path)/add.sh"))
            #expect(good.output.contains("[Script] DELETE: empty"))
            try settings("DELETE = \(path)/delete.sh\nRUN_AS = prov-no-such-user\nATTRIBUTES = x x-1")
            let bad = try await harness.command("check")
            #expect(bad.status == 1)
            for subject in ["[Script]", "[Script] DELETE", "[Script] RUN_AS"] {
                #expect(bad.output.contains("NOT   \(subject): "), "\(bad.output)")
            }
        }
    }
}
