import Sandbox
import Foundation
import Glibc
import Provisioning
import TestSupport
import Testing

/// The built program with a real LDAP server.
@Suite(.serialized) struct DaemonTests {
    @Test(
        "an account goes the whole way with the shipped home script, and a server without syncprov changes nothing",
        arguments: [true, false])
    func wholeWay(contentSync: Bool) async throws {
        var options = SandboxOptions.testing
        options.contentSync = contentSync
        try await DaemonHarness.run(options: options) { harness in
            let script = DaemonHarness.checkout.appending(path: "etc/Provisioning/Backup/create-chroot.sh").path
            try harness.settings(database: "POLL_INTERVAL = 1s", backup: "HOME_SCRIPT = \(script)")
            let daemon = try harness.start()
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            let home = harness.home("3724300")
            #expect(
                Set(try FileManager.default.contentsOfDirectory(atPath: home.path)) == [
                    "incoming", ".snapshots", ".ssh",
                ])
            let first = try String(contentsOf: harness.configuration("3724300"), encoding: .utf8)
            #expect(first.contains("retain\tdaily\t7"))

            try await harness.request("3724300", "modify", ["sstBackupIntervalDaily": "14"])
            try await harness.reached("modified", "3724300")
            let second = try String(contentsOf: harness.configuration("3724300"), encoding: .utf8)
            #expect(second.contains("retain\tdaily\t14"))

            try await harness.request("3724300", "delete", ["sstIsActive": "FALSE"])
            try await harness.reached("deleted", "3724300")
            #expect(!FileManager.default.fileExists(atPath: harness.configuration("3724300").path))
            #expect(FileManager.default.fileExists(atPath: home.path))
            let state = try await harness.text("3724300", "sstProvisioningState")
            #expect(state?.wholeMatch(of: /[0-9]{8}T[0-9]{6}Z/) != nil)

            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test(
        "nothing runs on threads of Swift's own: besides the event loop's there are only those of the pools and of the history"
    )
    func threads() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let daemon = try harness.start()
            for uid in ["3724300", "3724301"] { try await harness.add(uid) }
            for uid in ["3724300", "3724301"] { try await harness.reached("added", uid) }
            let tasks = "/proc/\(daemon.id)/task"
            let pools: Set = ["steps", "walks", "starts", "ldap", "log", "history log"]
            // One that begins has no name yet.
            try await eventually("each thread has one of the names") {
                var names: Set<String> = []
                for thread in try FileManager.default.contentsOfDirectory(atPath: tasks) where thread != "\(daemon.id)"
                {
                    // One may end just now.
                    let name = try? String(contentsOfFile: "\(tasks)/\(thread)/comm", encoding: .utf8)
                    if let name { names.insert(name.trimmingCharacters(in: .newlines)) }
                }
                return names.remove("job history") != nil && names.isSubset(of: pools)
            }
            await harness.stop(daemon)
        }
    }

    @Test(
        "accounts that would lead the daemon astray are refused with their code, nothing is created, the others go on")
    func hostileAccounts() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let homes = harness.homes.path
            let outside = harness.directory.appending(path: "outside")
            try FileManager.default.createDirectory(at: outside, withIntermediateDirectories: true)
            try FileManager.default.createSymbolicLink(
                at: harness.homes.appending(path: "link"), withDestinationURL: outside)
            let bad: [(uid: String, home: String?, code: String)] = [
                ("../../etc", "\(homes)/../../etc", "1"), ("-rf", "\(homes)/-rf", "1"),
                ("3724301\nx", "\(homes)/3724301", "1"),
                ("3724302\tinclude_conf", "\(homes)/3724302", "1"), ("123", "\(homes)/123", "1"),
                ("3724303", "/etc/3724303", "4"), ("3724304", homes, "4"), ("3724305", "\(homes)/link/3724305", "4"),
                ("3724306", "\(homes)/3724300", "4"), ("3724307", "\(homes)/../outside/3724307", "4"),
                ("3724308", "\(homes)/a\tb/3724308", "4"),
            ]
            let before = try harness.tree(harness.directory)
            for account in bad { try await harness.add(account.uid, home: account.home) }
            let daemon = try harness.start()
            for account in bad { try await harness.returned(account.code, account.uid) }
            let stateless = { (line: String) in
                !line.hasPrefix("state") && !line.hasPrefix("run") && !line.hasPrefix("Rsnapshot")
                    && !line.hasPrefix("rsnapshot.d ") && !line.contains(".accounts-lock")
            }
            #expect(try harness.tree(harness.directory).filter(stateless) == before.filter(stateless))
            try await harness.add("3724309")
            try await harness.reached("added", "3724309")
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test("wrong values of quota and intervals are refused with their codes")
    func badValues() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let daemon = try harness.start()
            try await harness.add("3724300", ["sstQuota": "-1"])
            try await harness.add("3724301", ["sstBackupIntervalDaily": "100"])
            try await harness.add(
                "3724302",
                ["sstBackupIntervalDaily": "0", "sstBackupIntervalWeekly": "0", "sstBackupIntervalMonthly": "0"])
            try await harness.returned("6", "3724300")
            try await harness.returned("7", "3724301")
            try await harness.returned("7", "3724302")
            #expect(try FileManager.default.contentsOfDirectory(atPath: harness.homes.path).isEmpty)
            daemon.kill(SIGINT)
            #expect(await daemon.end() == 0)
        }
    }

    @Test(
        "F11: a bad start does not exit 0: no settings 78, a second instance 75, no directory 69, wrong usage 64")
    func badStarts() async throws {
        try await DaemonHarness.run { harness in
            let none = try RunningProgram(DaemonHarness.program, ["run", "-c", "/nonexistent.conf"])
            #expect(await none.end() == 78)
            #expect(none.output.contains("/nonexistent.conf"))
            let usage = try RunningProgram(DaemonHarness.program, ["--nonsense"])
            #expect(await usage.end() == 64)
            try harness.settings(service: "SLOTS = many")
            let wrong = try await harness.command("run")
            #expect(wrong.status == 78)
            #expect(wrong.output.contains("Rsnapshot.conf:") && wrong.output.contains("SLOTS"))

            try harness.settings()
            let first = try harness.start()
            try await first.says("requests are detected")
            let second = try await harness.command("run")
            #expect(second.status == 75)
            #expect(second.output.contains("\(first.id)"))
            // The kernel gives the lock up with the process, however it ends.
            first.kill(SIGKILL)
            #expect(await first.end() == -SIGKILL)
            let third = try harness.start()
            try await third.says("requests are detected")
            third.kill(SIGTERM)
            #expect(await third.end() == 0)

            try harness.settings(database: "SERVER = ldapi://%2Fnonexistent%2Fldapi")
            let once = try await harness.command("run", "--once")
            #expect(once.status == 69)
        }
    }

    @Test(
        "with few file descriptors nothing is started; the message names the limit and how to raise it",
        arguments: [10, 12, 14, 20, 30, 50, 127])
    func fewDescriptors(limit: Int) async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            try await harness.add("3724300")
            for arguments in [["run"], ["run", "--once"], ["accounts", "provision", "3724300"]] {
                let start = try harness.limited(descriptors: limit, arguments)
                #expect(await start.end() == 78, "\(arguments) \(start.output)")
                #expect(start.output.contains("files is \(limit); at least 128 are needed"), "\(start.output)")
                #expect(start.output.contains("LimitNOFILE="), "\(start.output)")
            }
            let status = try harness.limited(descriptors: limit, ["status"])
            #expect(await status.end() == 0, "\(status.output)")
            #expect(try await harness.text("3724300", "sstProvisioningMode") == "add")
        }
    }

    @Test("with as few file descriptors as are allowed, all slots provision")
    func fewestDescriptors() async throws {
        try await DaemonHarness.run { harness in
            let script = DaemonHarness.checkout.appending(path: "etc/Provisioning/Backup/create-chroot.sh").path
            try harness.settings(service: "SLOTS = 4", backup: "HOME_SCRIPT = \(script)")
            let uids = (0..<8).map { "372430\($0)" }
            for uid in uids { try await harness.add(uid) }
            let run = try harness.limited(descriptors: 128, ["run", "--once"])
            #expect(await run.end() == 0, "\(run.output)")
            for uid in uids { #expect(try await harness.text(uid, "sstProvisioningMode") == "added") }
        }
    }

    @Test(
        "F14: settings that hold a password and can be read by others are refused with the command that mends it")
    func readablePassword() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(database: "ADMIN_PASSWORD_FILE =\nADMIN_PASSWORD = secret-word")
            chmod(harness.settingsFile.path, 0o644)
            let refused = try await harness.command("check")
            #expect(refused.status == 78)
            #expect(refused.output.contains("chmod 600"))
            #expect(!refused.output.contains("secret-word"))
        }
    }

    @Test("F12: a dry run shows claim, argument vector, environment and files, and changes nothing")
    func dryRun() async throws {
        try await DaemonHarness.run { harness in
            let script = DaemonHarness.checkout.appending(path: "etc/Provisioning/Backup/create-chroot.sh").path
            try harness.settings(backup: "HOME_SCRIPT = \(script)")
            try await harness.add("3724300")
            let before = try harness.tree(harness.directory)
            let csn = try await harness.text("3724300", "entryCSN")
            let run = try await harness.command("run", "-r", "--once")
            #expect(run.status == 0)
            #expect(try harness.tree(harness.directory) == before)
            #expect(try await harness.text("3724300", "entryCSN") == csn)
            for part in [
                "delete sstProvisioningMode: add; add sstProvisioningMode: adding", script, "PROV_ACTION=add",
                "PROV_UID_NUMBER=3724300", "snapshot_root",
            ] { #expect(run.output.contains(part), "\(part) is missing in:\n\(run.output)") }
        }
    }

    @Test(
        "a failing script leaves code 5 and its output; retry writes the request again, which succeeds after the script is fixed"
    )
    func failureAndRetry() async throws {
        try await DaemonHarness.run { harness in
            let script = harness.directory.appending(path: "home.sh")
            func write(_ text: String) throws {
                try "#!/bin/sh\n\(text)\n".write(to: script, atomically: true, encoding: .utf8)
                try makeExecutable(script.path)
            }
            try write("echo disk is on fire >&2; exit 3")
            try harness.settings(backup: "HOME_SCRIPT = \(script.path)")
            let daemon = try harness.start()
            try await harness.add("3724300")
            try await harness.returned("5", "3724300")
            try await daemon.says("disk is on fire")
            let explained = try await harness.command("accounts", "explain", "3724300")
            #expect(explained.output.contains("CANNOT_CREATE_HOME_DIR"))
            #expect(explained.output.contains("accounts retry 3724300"))
            try write("mkdir -p \"$2/incoming\" \"$2/.snapshots\"")
            let retried = try await harness.command("accounts", "retry", "3724300")
            #expect(retried.status == 0)
            try await harness.reached("added", "3724300")
            let again = try await harness.command("accounts", "retry", "3724300")
            #expect(again.status == 1)
            let listed = try await harness.command("accounts", "list", "--json")
            #expect(listed.output.contains(#""mode":"added""#))
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test(
        "a daemon whose socket is gone is told from one that does not run: commands name its process, and do not say to start it"
    )
    func socketGone() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: "HOME_SCRIPT =\n[Job nightly]\nSCRIPT = /bin/true")
            try await harness.add("3724300", ["sstProvisioningExecutionDate": "20991231"])
            let daemon = try await harness.running()
            try FileManager.default.removeItem(atPath: harness.path("run"))
            for (arguments, status) in [
                (["status"], 75), (["reload"], 75), (["jobs", "run", "nightly"], 75), (["health"], 2),
                (["jobs", "list"], 0),
                (["accounts", "explain", "3724300"], 0),
            ] {
                let asked = try RunningProgram(
                    DaemonHarness.program, arguments + ["-c", harness.settingsFile.path])
                #expect(await asked.end() == status, "\(arguments): \(asked.output)")
                #expect(asked.output.contains("process \(daemon.id) "), "\(arguments): \(asked.output)")
                #expect(!asked.output.contains("systemctl start"), "\(arguments): \(asked.output)")
            }
            await harness.stop(daemon)
            let none = try await harness.command("health")
            #expect(none.status == 2 && none.output.contains("systemctl start"), "\(none.output)")
        }
    }

    @Test("health and status say why there is no connection to the LDAP server")
    func serverGone() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let daemon = try await harness.serving()
            try await harness.sandbox.kill()
            var error: String?
            try await eventually("the loss is noticed, and the new connection is refused") {
                error = try await harness.json("status").first?["daemon"]["ldapError"].string
                return error?.contains("connectError (-11)") == true
            }
            #expect(error?.contains(harness.sandbox.uri) == true, "\(error ?? "")")
            let health = try await harness.command("health")
            #expect(health.status == 2 && health.output.contains("connectError (-11)"), "\(health.output)")
            let status = try await harness.command("status")
            #expect(status.output.contains("connectError (-11)"), "\(status.output)")
            await harness.stop(daemon)
        }
    }

    @Test(
        "a request whose home another process has locked: status and explain say so, and it is done when the lock is released"
    )
    func lockedHome() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(
                database: "[Attributes]\nCLAIM = provisioningClaim\n[Service]", backup: "HOME_SCRIPT =")
            let locks = harness.homes.appending(path: ".locks").path
            #expect(mkdir(locks, 0o700) == 0)
            let lock = open("\(locks)/3724300", O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
            defer { close(lock) }
            #expect(flock(lock, LOCK_EX) == 0)
            let daemon = try await harness.running()
            try await harness.add("3724300", claimedBy: "gone.example.org 17", ["sstProvisioningMode": "adding"])
            #expect(try await harness.command("accounts", "release", "3724300").status == 0)
            var waits: [JSON] = []
            try await eventually("it waits for the lock") {
                waits = try await harness.json("status").first?["daemon"]["lockWaits"].array ?? []
                return !waits.isEmpty
            }
            #expect(waits.map { $0["dn"].string } == ["\(try DaemonHarness.dn("3724300"))"])
            // The daemon tries each second; the time is that of the first.
            let since = waits.first?["since"]
            let explained = try await harness.json("accounts", "explain", "3724300").first
            #expect(explained?["daemon"].string?.hasPrefix("waits since ") == true, "\(explained ?? .null)")
            #expect(explained?["cure"].string == LockWait.hint)
            #expect(try await harness.json("status").first?["daemon"]["lockWaits"].array.first?["since"] == since)
            // It has not waited for long.
            #expect(try await harness.command("health").status == 0)
            #expect(flock(lock, LOCK_UN) == 0)
            try await harness.reached("added", "3724300")
            try await eventually("nothing waits") {
                try await harness.json("status").first?["daemon"]["lockWaits"] == .null
            }
            await harness.stop(daemon)
        }
    }

    @Test("a claim whose holder no longer exists is explained and released, and the request is processed here")
    func release() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(
                database: "[Attributes]\nCLAIM = provisioningClaim\n[Service]", backup: "HOME_SCRIPT =")
            try await harness.add(
                "3724300", claimedBy: "gone.example.org 17", ["sstProvisioningMode": "adding"])
            let daemon = try harness.start()
            try await daemon.says("another daemon holds the claim: \"gone.example.org 17\"")
            let explained = try await harness.command("accounts", "explain", "3724300").output
            #expect(explained.contains("accounts release 3724300"), "\(explained)")
            let claims = try await harness.json("status").first?["othersClaims"].array ?? []
            #expect(claims.map { $0["uid"].string } == ["3724300"])
            #expect(claims.map { $0["holder"].string } == ["gone.example.org 17"])
            #expect(claims.first?["since"].string != nil)
            let released = try await harness.command("accounts", "release", "3724300")
            #expect(released.status == 0 && released.output.contains("gone.example.org 17"), "\(released.output)")
            try await harness.reached("added", "3724300")
            #expect(try await harness.text("3724300", "provisioningClaim") == nil)
            #expect(try await harness.command("accounts", "release", "3724300").status == 1)
            await harness.stop(daemon)
        }
    }

    @Test(
        "deletes beyond MAX_DELETES_PER_HOUR wait, also over a restart; log, mail, health, status and explain say so and what lets them through"
    )
    func massDeletion() async throws {
        try await DaemonHarness.run { harness in
            let mail = try harness.mailSection()
            try harness.settings(service: "MAX_DELETES_PER_HOUR = 1", backup: "HOME_SCRIPT =\n\(mail)")
            let first = try harness.start()
            try await first.says("requests are detected")
            try await harness.add("3724300", ["sstProvisioningMode": "delete", "sstIsActive": "FALSE"])
            try await harness.reached("deleted", "3724300")
            await harness.stop(first)
            let daemon = try harness.start()
            try await harness.add("3724301", ["sstProvisioningMode": "delete", "sstIsActive": "FALSE"])
            try await daemon.says("deletes wait with their entries untouched")
            try await eventually("a mail is sent") {
                try harness.mails().contains { $0.contains("MAX_DELETES_PER_HOUR") && $0.contains("reload") }
            }
            let health = try await harness.command("health")
            #expect(health.status == 1 && health.output.contains("1 delete waits"), "\(health.output)")
            let status = try await harness.command("status").output
            #expect(status.contains("1 account to be deleted"), "\(status)")
            let explained = try await harness.command("accounts", "explain", "3724301").output
            #expect(explained.contains("accounts provision 3724301"), "\(explained)")
            #expect(try await harness.text("3724301", "sstProvisioningMode") == "delete")
            try harness.settings(service: "MAX_DELETES_PER_HOUR = 2", backup: "HOME_SCRIPT =\n\(mail)")
            daemon.kill(SIGHUP)
            try await harness.reached("deleted", "3724301")
            #expect(try await harness.command("health").status == 0)
            await harness.stop(daemon)
        }
    }

    @Test("SIGHUP: valid settings apply to the next job, wrong ones are refused and the daemon keeps its settings")
    func reload() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let daemon = try harness.start()
            try await daemon.says("requests are detected")
            try harness.settings(service: "SLOTS = none at all")
            daemon.kill(SIGHUP)
            try await daemon.says("the settings are unchanged")
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            let script = harness.directory.appending(path: "no.sh")
            try "#!/bin/sh\nexit 9\n".write(to: script, atomically: true, encoding: .utf8)
            try makeExecutable(script.path)
            try harness.settings(backup: "HOME_SCRIPT = \(script.path)")
            daemon.kill(SIGHUP)
            try await daemon.says("have been reloaded")
            try await harness.add("3724301")
            try await harness.returned("5", "3724301")
            chmod(script.path, 0o777)
            daemon.kill(SIGHUP)
            try await daemon.says("HOME_SCRIPT: \(script.path): can be written by others")
            try await daemon.says("chmod go-w \(script.path)")
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test(
        "reload: what has changed and what waits for a restart; wrong settings end with 78 and their line, and nothing is changed; 69 without a daemon"
    )
    func reloadCommand() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let none = try await harness.command("reload")
            #expect(none.status == 69 && none.output.contains("no daemon runs here"), "\(none.output)")
            let daemon = try harness.start()
            try await daemon.says("requests are detected")
            let same = try await harness.command("reload")
            #expect(same.status == 0 && same.output.contains("nothing has changed"), "\(same.output)")

            try harness.settings(
                service: "SLOTS = 2\nSYSLOG = other\nNO_SUCH_KEY = 1", backup: "HOME_SCRIPT =\nPURGE_AFTER_DAYS = 7")
            let good = try await harness.command("reload")
            #expect(good.status == 0, "\(good.output)")
            let warning = "\(harness.settingsFile.path):\(try harness.line("NO_SUCH_KEY")): [Service] NO_SUCH_KEY"
            for part in [
                warning, "changed: [Backup] PURGE_AFTER_DAYS\nchanged: [Service] SLOTS\nchanged: [Service] SYSLOG\n",
                "takes effect at the next start: [Service] SYSLOG",
            ] { #expect(good.output.contains(part), "\(part): \(good.output)") }

            let again = try await harness.command("reload")
            #expect(
                again.output.contains("nothing has changed\ntakes effect at the next start: [Service] SYSLOG"),
                "\(again.output)")

            try harness.settings(service: "SLOTS = none at all", backup: "HOME_SCRIPT = /nonexistent.sh")
            let wrong = try await harness.command("reload")
            let error = "\(harness.settingsFile.path):\(try harness.line("SLOTS")): [Service] SLOTS = none at all: "
            #expect(wrong.status == 78 && wrong.output.contains(error), "\(wrong.output)")
            #expect(wrong.output.contains("nothing was changed"), "\(wrong.output)")
            #expect(!wrong.output.contains("HOME_SCRIPT"), "\(wrong.output)")
            let health = try await harness.command("health")
            #expect(
                health.status == 1 && health.output.contains("run: prov-backup-rsnapshot check"), "\(health.output)")
            #expect(try await harness.command("status").output.contains("were not reloaded"))
            // With the script of the wrong settings it would fail.
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")

            // What the next start would refuse, a reload refuses as well.
            let open = harness.directory.appending(path: "open")
            try FileManager.default.createDirectory(at: open, withIntermediateDirectories: false)
            chmod(open.path, 0o777)
            try harness.settings(backup: "HOME_SCRIPT =\n[History]\nFILE = \(open.path)/history.sqlite")
            let untrusted = try await harness.command("reload")
            #expect(untrusted.status != 0 && untrusted.output.contains("chmod go-w"), "\(untrusted.output)")

            // Two at once: each gets the verdict of a reading that began after it had asked.
            try harness.settings(service: "SLOTS = 3", backup: "HOME_SCRIPT =\nPURGE_AFTER_DAYS = 7")
            let commands = try (0..<8).map { _ in
                try RunningProgram(DaemonHarness.program, ["reload", "-c", harness.settingsFile.path])
            }
            for command in commands { #expect(await command.end() == 0, "\(command.output)") }
            #expect(commands.contains { $0.output.contains("changed: [Service] SLOTS") })
            let after = try await harness.command("reload")
            #expect(after.output.contains("nothing has changed"), "\(after.output)")
            #expect(try await harness.command("health").status == 0)
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test("one account now: by the running daemon, and without one; the exit status is the provisioning code")
    func provisionOne() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            try await harness.add("3724300", ["sstProvisioningExecutionDate": "20991231"])
            let alone = try await harness.command("accounts", "provision", "3724300")
            #expect(alone.status == 0)
            #expect(try await harness.text("3724300", "sstProvisioningMode") == "added")
            let nothing = try await harness.command("accounts", "provision", "3724300")
            #expect(nothing.status == 0 && nothing.output.contains("nothing to do"))

            let daemon = try harness.start()
            try await daemon.says("requests are detected")
            try await harness.add("3724301", home: "/etc/3724301", ["sstProvisioningExecutionDate": "20991231"])
            let asked = try await harness.command("accounts", "provision", "3724301")
            #expect(asked.status == 4)
            #expect(asked.output.contains("CANNOT_CHECK_HOME_DIR_PRESENCE"))
            let failed = try await harness.command("accounts", "provision", "3724301")
            #expect(failed.status == 0 && failed.output.contains("accounts retry 3724301"), "\(failed.output)")
            let status = try await harness.command("status", "--json")
            #expect(status.output.contains("\"pid\":\(daemon.id)"))
            let unknown = try await harness.command("accounts", "explain", "nobody")
            #expect(unknown.status == 1 && unknown.output.contains("nobody"))
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test("F6: killed with -9 again and again at any moment, the next starts bring every account to its end")
    func killedAgainAndAgain() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let uids = (0..<40).map { "37243\($0 < 10 ? "0" : "")\($0)" }
            for uid in uids { try await harness.add(uid) }
            for round in 0..<12 {
                let daemon = try harness.start()
                try await daemon.says("begins")
                // A different moment in every round, wherever that falls.
                try await Task.sleep(for: .milliseconds(7 * round))
                daemon.kill(SIGKILL)
                _ = await daemon.end()
                if round == 6 { for uid in uids.prefix(20) { try await harness.request(uid, "modify") } }
            }
            let last = try harness.start()
            for (place, uid) in uids.enumerated() { try await harness.reached(place < 20 ? "modified" : "added", uid) }
            for uid in uids {
                #expect(try await harness.text(uid, "sstProvisioningReturnValue") == "0")
                #expect(FileManager.default.fileExists(atPath: harness.configuration(uid).path))
            }
            last.kill(SIGTERM)
            #expect(await last.end() == 0)
        }
    }

    @Test("a stop ends a hanging script after the grace, leaves the account resumable, and exits 0")
    func stopWithHangingScript() async throws {
        try await DaemonHarness.run { harness in
            let script = harness.directory.appending(path: "hang.sh")
            try "#!/bin/sh\ntrap '' TERM\necho hanging\nwhile :; do sleep 1; done\n"
                .write(to: script, atomically: true, encoding: .utf8)
            try makeExecutable(script.path)
            try harness.settings(service: "STOP_GRACE = 1s", backup: "HOME_SCRIPT = \(script.path)\nSCRIPT_GRACE = 1s")
            let daemon = try harness.start()
            try await harness.add("3724300")
            try await daemon.says("step: home script")
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
            #expect(try await harness.text("3724300", "sstProvisioningMode") == "adding")
            #expect(try await harness.text("3724300", "sstProvisioningReturnValue") == nil)
            try harness.settings()
            let next = try harness.start()
            try await harness.reached("added", "3724300")
            #expect(next.output.contains("attempt=2"))
            next.kill(SIGTERM)
            #expect(await next.end() == 0)
        }
    }

    @Test("--once ends with 1 when an account failed for good, has to be tried again, or could not be claimed")
    func onceThatFails() async throws {
        try await DaemonHarness.run { harness in
            let script = harness.directory.appending(path: "busy.sh")
            try "#!/bin/sh\nexit 75\n".write(to: script, atomically: true, encoding: .utf8)
            try makeExecutable(script.path)
            try harness.settings(backup: "HOME_SCRIPT = \(script.path)")
            try await harness.add("3724300")
            let retrying = try await harness.command("run", "--once")
            #expect(try await harness.text("3724300", "sstProvisioningMode") == "adding")
            #expect(try await harness.text("3724300", "sstProvisioningReturnValue") == nil)
            #expect(retrying.status == 1)
            try harness.settings()
            let done = try await harness.command("run", "--once")
            #expect(done.status == 0)
            #expect(try await harness.text("3724300", "sstProvisioningMode") == "added")
            // An attribute that the daemon may not write.
            try harness.settings(database: "[Attributes]\nRETURN_VALUE = sstQuota")
            try await harness.add("3724301")
            let refused = try await harness.command("run", "--once")
            #expect(refused.status == 1)
            #expect(try await harness.text("3724301", "sstProvisioningMode") == "add")
        }
    }

    @Test("an account that does not match SEARCH_FILTER can be neither listed nor explained nor provisioned")
    func outsideTheCondition() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(database: "SEARCH_FILTER = (sstBelongsToResellerUID=1)")
            try await harness.add("3724300")
            for command in ["explain", "provision", "retry"] {
                let refused = try await harness.command("accounts", command, "3724300")
                #expect(refused.status == 1 && refused.output.contains("SEARCH_FILTER"), "\(refused.output)")
            }
            #expect(try await harness.text("3724300", "sstProvisioningMode") == "add")
        }
    }

    @Test("a dry run neither needs nor touches the state: not its rights, and not a damaged number of the last job")
    func dryRunWithoutState() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            try await harness.add("3724300")
            let state = harness.directory.appending(path: "state")
            try FileManager.default.createDirectory(at: state, withIntermediateDirectories: true)
            let number = state.appending(path: "job-number")
            try "garbage".write(to: number, atomically: true, encoding: .utf8)
            let before = try harness.tree(harness.directory)
            let run = try await harness.command("run", "-r", "--once")
            #expect(run.status == 0 && run.output.contains("adding"))
            #expect(try harness.tree(harness.directory) == before)
            // Simulates a directory that may not be read: root may read all.
            try FileManager.default.removeItem(at: number)
            try FileManager.default.createDirectory(at: number, withIntermediateDirectories: false)
            #expect(try await harness.command("run", "-r", "--once").status == 0)
        }
    }

    @Test("values with control characters reach no terminal as they are")
    func controlCharacters() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let evil = "3724300\u{1B}[2Jx\u{7}"
            try await harness.add(evil, home: "\(harness.homes.path)/\u{1B}[31m")
            try await harness.add("3724301", home: "\(harness.homes.path)/3724301\u{1B}[31m\r")
            let plan = try await harness.command("run", "-r", "--once")
            #expect(plan.output.contains("would fail"))
            #expect(try await harness.command("run", "--once").status == 1)
            let commands = [
                plan, try await harness.command("accounts", "list"),
                try await harness.command("accounts", "list", "--json"),
                try await harness.command("accounts", "explain", evil), try await harness.command("status"),
                try await harness.command("accounts", "retry", "--all"),
            ]
            for command in commands {
                #expect(!command.output.unicodeScalars.contains { $0.value < 32 && $0 != "\n" }, "\(command.output)")
            }
        }
    }

    @Test("SIGTERM after a SIGHUP ends a hanging script after the grace as well")
    func stopAfterReload() async throws {
        try await DaemonHarness.run { harness in
            let script = harness.directory.appending(path: "hang.sh")
            try "#!/bin/sh\nexec sleep 3600\n".write(to: script, atomically: true, encoding: .utf8)
            try makeExecutable(script.path)
            try harness.settings(service: "STOP_GRACE = 0s", backup: "HOME_SCRIPT = \(script.path)")
            let daemon = try harness.start()
            try await harness.add("3724300")
            try await daemon.says("step: home script")
            for _ in 0..<20 { daemon.kill(SIGHUP) }
            try await daemon.says("have been reloaded")
            daemon.kill(SIGTERM)
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test("systemd hears that the daemon is ready, again and again that it is alive, and that it stops")
    func notifications() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            let systemd = try RunningProgram(
                URL(filePath: "/usr/bin/python3"),
                [
                    "-c",
                    """
                    import socket, sys
                    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                    listener.bind(sys.argv[1])
                    while True: print(listener.recv(4096).decode(), flush=True)
                    """, harness.path("notify"),
                ])
            defer { systemd.kill(SIGKILL) }
            try await eventually("it listens") { FileManager.default.fileExists(atPath: harness.path("notify")) }
            let daemon = try await harness.serving(
                by: ["/usr/bin/env", "NOTIFY_SOCKET=\(harness.path("notify"))", "WATCHDOG_USEC=400000"])
            try await systemd.says("READY=1")
            try await systemd.says("WATCHDOG=1\nWATCHDOG=1")
            await harness.stop(daemon)
            try await systemd.says("STOPPING=1")
        }
    }

    @Test("SIGTERM while the LDAP server is stopped, paused or removed ends the daemon with 0")
    func stopWhileAway() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(service: "STOP_GRACE = 0s", backup: "HOME_SCRIPT = /bin/true")
            for pauses in [true, false] {
                let daemon = try harness.start()
                try await daemon.says("requests are detected")
                if pauses { harness.sandbox.pause() } else { try await harness.sandbox.kill() }
                daemon.kill(SIGHUP)
                try await daemon.says("have been reloaded")
                daemon.kill(SIGTERM)
                #expect(await daemon.end() == 0)
                if pauses { harness.sandbox.resume() }
            }
            let daemon = try harness.start()
            try await daemon.says("unreachable")
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test("a stop in the middle of connecting ends the daemon with 0, again and again")
    func stopWhileConnecting() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings()
            for _ in 0..<15 {
                let daemon = try harness.start()
                try await daemon.says("requests are detected")
                daemon.kill(SIGHUP)
                try await daemon.says("have been reloaded")
                daemon.kill(SIGTERM)
                #expect(await daemon.end() == 0)
            }
        }
    }
}
