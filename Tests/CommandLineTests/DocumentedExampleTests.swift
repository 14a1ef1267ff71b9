import BackupService
import Daemon
import LDAP
import Sandbox
import Foundation
import Glibc
import JobCore
import Provisioning
import SystemPackage
import TestSupport
import Testing

@testable import prov_backup_rsnapshot

/// The commands, scripts and settings in the documentation work as documented.
@Suite(.serialized) struct DocumentedExampleTests {
    @Test("the first account of README.md is made by the commands as they stand there")
    func firstAccount() async throws {
        let commands = try DocumentationPage("README.md").block("first account")
        #expect(commands.contains("swift build\n") && commands.contains("/var/lib/prov-try"))
        // Without root everything belongs to one user, who cannot write to /var/lib.
        let parent = geteuid() == 0 ? "/var/lib" : NSTemporaryDirectory()
        let directory = URL(filePath: parent).appending(path: "prov-try-\(UUID().uuidString.prefix(8))")
        defer { try? FileManager.default.removeItem(at: directory) }
        let programs = DaemonHarness.program.deletingLastPathComponent().path
        let script = commands.replacing("swift build\n", with: "").replacing("$PWD/.build/debug", with: programs)
            .replacing("/var/lib/prov-try", with: directory.path)
        let shell = try RunningProgram(URL(filePath: "/bin/bash"), ["-euc", script])
        if await shell.end() != 0 {
            Issue.record("\(shell.output)")
            _ = try await RunningProgram(DaemonHarness.program, ["sandbox", "stop", "--directory", directory.path])
                .end()
        }
        // But for times and durations.
        func lines(_ text: String) -> [String] {
            text.replacing(/\d{8}T\d{6}Z|\d+\.\d s/, with: "…").split(separator: "\n").map(String.init)
        }
        let output = lines(shell.output.replacing(directory.path, with: "/var/lib/prov-try"))
        for line in lines(try DocumentationPage("README.md").block("first account output")) where line != "[…]" {
            #expect(output.contains(line), "\(line): \(shell.output)")
        }
        #expect(!FileManager.default.fileExists(atPath: directory.path))
    }

    // MARK: The home script

    @Test("the example of a home script can be repeated, requests a retry, and is trusted at its place")
    func homeScript() async throws {
        try await DaemonHarness.run { harness in
            let repairs = harness.directory.appending(path: "repairs")
            let example = try DocumentationPage("docs/home-script.md").block("home-script")
            let written = example.replacingOccurrences(of: "/run/backup-repairs", with: repairs.path)
            #expect(written != example)
            let script = harness.directory.appending(path: "home.sh")
            try written.write(to: script, atomically: true, encoding: .utf8)
            try makeExecutable(script.path)
            try harness.settings(backup: "HOME_SCRIPT = \(script.path)")

            // Where nothing can be made, as on a full disk.
            let full = try RunningProgram(
                URL(filePath: "/usr/bin/env"),
                ["PROV_ACTION=add", script.path, "3724300", "/proc/no/home", "3724300", "3724300"])
            #expect(await full.end() == 75, "\(full.output)")

            try Data().write(to: repairs)
            let daemon = try harness.start()
            try await harness.add("3724300")
            try await daemon.says("the volumes are being repaired")
            #expect(try await harness.text("3724300", "sstProvisioningMode") == "adding")
            #expect(try await harness.text("3724300", "sstProvisioningReturnValue") == nil)
            try FileManager.default.removeItem(at: repairs)
            try await harness.reached("added", "3724300")
            #expect(
                Set(try FileManager.default.contentsOfDirectory(atPath: harness.home("3724300").path)) == [
                    "incoming", ".snapshots", ".ssh",
                ])
            try await harness.request("3724300", "modify")
            try await harness.reached("modified", "3724300")
            try await harness.request("3724300", "delete", ["sstIsActive": "FALSE"])
            try await harness.reached("deleted", "3724300")
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test(
        "the example of event handlers and the shipped sample work with a daemon", arguments: [true, false])
    func handlers(isShipped: Bool) async throws {
        try await DaemonHarness.run { harness in
            let sample = DaemonHarness.checkout.appending(path: "etc/Provisioning/scripts/DirStartUp.py.sample")
            let text =
                isShipped
                ? try String(contentsOf: sample, encoding: .utf8)
                : try DocumentationPage("docs/event-handlers.md").block("handlers")
            let script = harness.directory.appending(path: "DirStartUp.py")
            try text.write(to: script, atomically: true, encoding: .utf8)
            chmod(script.path, 0o644)
            try harness.settings(backup: "HOME_SCRIPT =\n[Scripts]\nEVENTS_DIRECTORY = \(harness.directory.path)")
            let daemon = try harness.start()
            try await daemon.says("handlers for \(isShipped ? "Exit, " : "")JobEnd, JobStart")
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            // The job of purging, of which the sample hears as well, and that of the account.
            let listed = try await harness.command("jobs", "list", "--json")
            for line in listed.output.split(separator: "\n") {
                let id = try #require(line.firstMatch(of: #/"id":([0-9]+)/#)).output.1
                let job = try await harness.command("jobs", "show", String(id))
                #expect(job.status == 0 && !job.output.contains("error:"), "\(job.output)")
            }
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
            #expect(!daemon.output.contains("handlers: error") && !daemon.output.contains("Traceback"))
        }
    }

    @Test("the settings of jobs and mail that the guides show load without a complaint, and the job runs")
    func jobExample() async throws {
        try await DaemonHarness.run { harness in
            let texts = try ["docs/jobs-and-scripts.md", "docs/operate.md"].map { try DocumentationPage($0).text }
            let blocks = texts.flatMap { $0.matches(of: #/```\n(\[[^`]*)```/#) }.map { String($0.output.1) }
            #expect(blocks.count == 3)
            let script = harness.directory.appending(path: "server_backup.sh")
            try "#!/bin/sh\nexit 24\n".write(to: script, atomically: true, encoding: .utf8)
            try makeExecutable(script.path)
            let settings = blocks.joined().replacingOccurrences(
                of: "/etc/Provisioning/Backup/server_backup.sh", with: script.path
            ).replacingOccurrences(of: "RUN_AS = backup\n", with: "")
            try harness.settings(backup: "HOME_SCRIPT =\n" + settings)
            let daemon = try harness.start()
            try await daemon.says("requests are detected")
            let run = try await harness.command("jobs", "run", "server_backup", "--wait")
            #expect(run.status == 0 && run.output.contains("warnings (exit code 24, profile rsync)"), "\(run.output)")
            #expect(!daemon.output.contains("[Hooks") && !daemon.output.contains("[Mail]"), "\(daemon.output)")
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test("the guide names every variable that a home script gets")
    func variables() async throws {
        try await DaemonHarness.run { harness in
            let script = DaemonHarness.checkout.appending(path: "etc/Provisioning/Backup/create-chroot.sh").path
            try harness.settings(backup: "HOME_SCRIPT = \(script)")
            try await harness.add("3724300")
            let plan = try await harness.command("run", "-r", "--once")
            let names = plan.output.matches(of: #/(?m)^ +([A-Z_]+)=/#).map { String($0.output.1) }
            #expect(names.count > 10)
            let described = try DocumentationPage("docs/home-script.md").section("## The home script")
            for name in names { #expect(described.contains("`\(name)"), "\(name)") }
        }
    }

    @Test("a sandbox takes script and template from its checkout, and of an installed program those in /etc")
    func sandboxPlaces() {
        let checkout = FilePath(DaemonHarness.checkout.path)
        #expect(
            SandboxSettings.shipped(with: checkout.appending("etc").appending("openldap"))
                == checkout.appending("etc").appending("Provisioning").appending("Backup"))
        #expect(
            SandboxSettings.shipped(with: "/usr/share/prov-backup-rsnapshot/openldap") == "/etc/Provisioning/Backup")
    }

    // MARK: Restore

    /// Runs commands of the guide with other places.
    private func run(_ commands: String, _ places: KeyValuePairs<String, String>) async throws -> RunningProgram {
        let script = places.reduce(commands) { script, place in
            #expect(script.contains(place.key), "\(place.key)")
            return script.replacing(place.key, with: place.value)
        }
        let shell = try RunningProgram(URL(filePath: "/bin/bash"), ["-uc", "umask 077; " + script])
        _ = await shell.end()
        return shell
    }

    @Test(
        "the commands of docs/restore.md restore modes, owners and sparse files, and follow no link of the customer's as root",
        .enabled(if: geteuid() == 0, "needs root to work as the customer"))
    func restore() async throws {
        // Which the customer can reach.
        let directory = URL(filePath: "/var/lib").appending(path: "prov-restore-\(UUID().uuidString.prefix(8))")
        defer { try? FileManager.default.removeItem(at: directory) }
        let made = try RunningProgram(
            URL(filePath: "/bin/bash"),
            [
                "-euc",
                """
                umask 022; mkdir $0; cd $0; mkdir -m 0700 .store secrets; mkdir -p .store/3724300/daily.0/documents incoming
                echo secret > secrets/file
                cd .store/3724300/daily.0; ln -s $0/secrets evil
                echo text > documents/shared; chmod 0666 documents/shared; touch -d @1796000000.123456789 documents/shared; truncate -s 10M documents/sparse
                chown -hR 3724300:3724301 . $0/incoming; chmod 0750 . $0/incoming
                """, directory.path,
            ])
        #expect(await made.end() == 0, "\(made.output)")
        let commands = try DocumentationPage("docs/restore.md").block("restore")
        func restore(_ path: String) async throws -> RunningProgram {
            try await run(
                commands,
                [
                    "/var/backup/.store": directory.appending(path: ".store").path,
                    "/var/backup/0/300/724/3724300/chroot/home/3724300": directory.path,
                    "--regid=3724300": "--regid=3724301", "./documents": path,
                ])
        }
        let shell = try await restore("./documents")
        var (shared, sparse) = (stat(), stat())
        #expect(lstat(directory.appending(path: "incoming/documents/shared").path, &shared) == 0, "\(shell.output)")
        #expect(shared.st_mode & 0o7777 == 0o666 && shared.st_uid == 3_724_300 && shared.st_gid == 3_724_301)
        #expect(lstat(directory.appending(path: "incoming/documents/sparse").path, &sparse) == 0, "\(shell.output)")
        #expect(sparse.st_size == 10 << 20 && sparse.st_blocks < 1_000)
        // As the next backup compares it, whose rsync takes a file with another time for a changed one.
        #expect(shared.st_mtim.tv_sec == 1_796_000_000 && shared.st_mtim.tv_nsec == 123_456_789)
        _ = try await restore("./evil/file")
        #expect(!FileManager.default.fileExists(atPath: directory.appending(path: "incoming/evil").path))
    }

    @Test("a deleted account comes back by the commands of docs/restore.md, and its snapshots are continued")
    func restoredAccount() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: "HOME_SCRIPT =\nON_DELETE = archive")
            let daemon = try harness.start()
            try await harness.add("3724300")
            try await harness.reached("added", "3724300")
            try harness.upload("text", as: "file", of: "3724300")
            #expect(try await harness.command("backup", "daily").status == 0)
            try await harness.request("3724300", "delete", ["sstIsActive": "FALSE"])
            try await harness.reached("deleted", "3724300")
            #expect(!FileManager.default.fileExists(atPath: harness.home("3724300").path))
            let archive = harness.homes.appending(path: ".deleted").path
            let name = try #require(try FileManager.default.contentsOfDirectory(atPath: archive).first)
            let shell = try await run(
                try DocumentationPage("docs/restore.md").block("restore of a deleted account"),
                [
                    "3724300-20261130T120000Z": name, "/var/backup/0/300/724/3724300": harness.home("3724300").path,
                    "/var/backup/.deleted": archive,
                ])
            #expect(shell.output.contains(name))
            try await harness.request("3724300", "add", ["sstIsActive": "TRUE"])
            try await harness.reached("added", "3724300")
            #expect(try await harness.command("backup", "daily", "--force").status == 0)
            let snapshots = harness.home("3724300").appending(path: ".snapshots")
            for name in ["daily.0", "daily.1"] {
                #expect(FileManager.default.fileExists(atPath: snapshots.appending(path: "\(name)/file").path))
            }
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    @Test("the home script of docs/logins.md refuses a home without a chroot before it makes anything")
    func loginHomeScript() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "prov-login-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: directory) }
        let example = try DocumentationPage("docs/logins.md").block("home script with a login shell")
        let shipped = DaemonHarness.checkout.appending(path: "etc/Provisioning/Backup").path
        let written = example.replacing("/etc/Provisioning/Backup", with: shipped)
        #expect(written != example)
        let home = directory.appending(path: "d6/d4d5d6/d1d2d3/3724300").path
        func run(_ action: String) async throws -> (status: Int32, output: String) {
            let script = try RunningProgram(
                URL(filePath: "/bin/bash"), ["-c", written, "home.sh", "3724300", home, "3724300", "3724300"],
                environment: ["PROV_ACTION": action, "PROV_OWNERSHIP": "none"])
            return (await script.end(), script.output)
        }
        for action in ["add", "modify"] {
            let refused = try await run(action)
            #expect(refused.status == 1)
            #expect(refused.output.contains(home))
        }
        #expect(try await run("delete").status == 0)
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path) == [])
    }

    @Test(
        "a deleted account whose home could not take back its snapshots comes back by the commands of docs/restore.md",
        .enabled(if: geteuid() == 0, "needs root to keep snapshots outside of the home"))
    func restoredInTwoParts() async throws {
        try await DaemonHarness.run { harness in
            try harness.settings(backup: "HOME_SCRIPT =\nON_DELETE = archive\nSNAPSHOTS = hidden")
            let daemon = try harness.start()
            let home = harness.homes.appending(path: "0/300/724/3724300/chroot/home/3724300")
            try await harness.add("3724300", home: home.path)
            try await harness.reached("added", "3724300")
            let file = home.appending(path: "incoming/file")
            try "text".write(to: file, atomically: true, encoding: .utf8)
            #expect(chown(file.path, 3_724_300, 3_724_300) == 0)
            #expect(try await harness.command("backup", "daily").status == 0)
            let other = home.appending(path: ".snapshots/other")
            try "other".write(to: other, atomically: true, encoding: .utf8)
            try await harness.request("3724300", "delete", ["sstIsActive": "FALSE"])
            try await harness.reached("deleted", "3724300")
            let archive = harness.homes.appending(path: ".deleted")
            let names = try FileManager.default.contentsOfDirectory(atPath: archive.path).sorted()
            let name = try #require(names.first)
            try #require(names == [name, "\(name)-2"])

            let shell = try await run(
                try DocumentationPage("docs/restore.md").block("restore of a deleted account in two parts"),
                ["3724300-20261130T120000Z": name, "/var/backup": harness.homes.path])
            #expect(shell.output.isEmpty, "\(shell.output)")
            #expect(try FileManager.default.contentsOfDirectory(atPath: archive.path) == ["3724300-others"])
            #expect(
                FileManager.default.fileExists(atPath: archive.appending(path: "3724300-others/other").path))
            try await harness.request("3724300", "add", ["sstIsActive": "TRUE"])
            try await harness.reached("added", "3724300")
            #expect(FileManager.default.fileExists(atPath: file.path))
            #expect(try await harness.command("backup", "daily", "--force").status == 0)
            for name in ["daily.0", "daily.1"] {
                let copy = harness.homes.appending(path: ".store/3724300/\(name)/file")
                #expect(FileManager.default.fileExists(atPath: copy.path), "\(name)")
            }
            #expect(try FileManager.default.contentsOfDirectory(atPath: home.path + "/.snapshots") == [])
            daemon.kill(SIGTERM)
            #expect(await daemon.end() == 0)
        }
    }

    // MARK: The directory

    @Test("the steps of docs/install.md on a server with Debian's own configuration lead to a successful backup")
    func siteLDIF() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(
            path: "prov-install-\(UUID().uuidString.prefix(8))")
        defer {
            // The shipped settings show snapshots by a mount.
            umount2(directory.appending(path: "homes/\(Self.homeOfSiteAccount)/.snapshots").path, Int32(MNT_DETACH))
            try? FileManager.default.removeItem(at: directory)
        }
        for name in ["slapd.d", "db", "homes", "rsnapshot.d"] {
            try FileManager.default.createDirectory(
                at: directory.appending(path: name), withIntermediateDirectories: true,
                attributes: [.posixPermissions: 0o755])
        }
        func write(_ name: String, _ text: String) throws -> String {
            let file = directory.appending(path: name)
            try text.write(to: file, atomically: true, encoding: .utf8)
            chmod(file.path, 0o600)
            return file.path
        }
        func run(_ program: String, _ arguments: String...) async throws -> String {
            let running = try RunningProgram(URL(filePath: program), arguments)
            let status = await running.end()
            #expect(status == 0, "\(program) \(arguments): \(running.output)")
            return running.output
        }
        let initial = try String(contentsOfFile: "/usr/share/slapd/slapd.init.ldif", encoding: .utf8)
        let values = [
            "@SUFFIX@": Self.base, "@BACKEND@": "mdb", "@BACKENDOBJECTCLASS@": "olcMdbConfig",
            "@PASSWORD@": "secret", "@BACKENDOPTIONS@": "olcDbMaxSize: 104857600",
            "/var/lib/ldap": directory.appending(path: "db").path, "/var/run/slapd": directory.path,
            "gidNumber=0+uidNumber=0": "gidNumber=\(getegid())+uidNumber=\(geteuid())",
        ]
        let filled = values.reduce(initial) { $0.replacingOccurrences(of: $1.key, with: $1.value) }
        let configuration = directory.appending(path: "slapd.d").path
        _ = try await run("/usr/sbin/slapadd", "-n", "0", "-F", configuration, "-l", try write("init.ldif", filled))
        let socket = directory.appending(path: "ldapi").path
        let uri = "ldapi://" + socket.replacingOccurrences(of: "/", with: "%2F")
        let slapd = try RunningProgram(
            URL(filePath: "/usr/sbin/slapd"), ["-F", configuration, "-h", uri, "-d", "0"])
        defer { slapd.kill(SIGKILL) }
        try await eventually("slapd answers\n\(slapd.output)") {
            do {
                try await LDAPConnection.open(ServerAddress(parsing: uri)).close()
                return true
            } catch is LDAPError {
                return false
            }
        }

        let program = DaemonHarness.program.path
        let pieces = DaemonHarness.checkout.appending(path: "etc/openldap").path
        _ = try await run(program, "ldif", "load", "--server", uri, "\(pieces)/stoney-cloud.ldif")
        let password = try write("password", "secret\n")
        func load(_ files: String...) async throws {
            let administrator = ["--server", uri, "--bind-dn", "cn=admin,\(Self.base)", "--password-file", password]
            let running = try RunningProgram(DaemonHarness.program, ["ldif", "load"] + administrator + files)
            #expect(await running.end() == 0, "\(running.output)")
        }
        // Debian makes this one.
        try await load(
            try write(
                "base.ldif",
                "dn: \(Self.base)\nobjectClass: dcObject\nobjectClass: organization\ndc: nodomain\no: nodomain\n"))
        #expect(try await anonymous(uri) == [Self.base], "Debian lets everybody read")
        let install = try DocumentationPage("docs/install.md")
        #expect(install.fencedLines.contains("prov-backup-rsnapshot ldif site --base \(Self.base) > site.ldif"))
        let site = try await run(program, "ldif", "site", "--base", Self.base)
            .replacingOccurrences(of: "gidNumber=0+uidNumber=0", with: "gidNumber=\(getegid())+uidNumber=\(geteuid())")
        #expect(!site.contains("stoney-cloud,"))
        _ = try await run(
            "/usr/bin/ldapmodify", "-Q", "-Y", "EXTERNAL", "-H", uri, "-f", try write("site.ldif", site))
        let daemonDN = "cn=prov-backup-rsnapshot,ou=programs,\(Self.base)"
        try await load(
            try write(
                "password.ldif",
                "dn: \(daemonDN)\nchangetype: modify\nreplace: userPassword\nuserPassword: secret\n"),
            try write("account.ldif", try accountWithPassword(homes: directory.appending(path: "homes").path)))

        #expect(try await anonymous(uri).filter { $0.contains("ou=backup") || $0.contains("3724300") } == [])
        let settings = try write(
            "Rsnapshot.conf",
            try shippedSettings(in: directory, server: uri, passwordFile: password)
                .replacing("dc=stoney-cloud,dc=org", with: Self.base))
        let checked = try await run(program, "check", "-c", settings)
        #expect(checked.contains("content sync: offered"))
        #expect(checked.contains("rights: sstBackupLastSuccessfulBackup can be written"))
        for subject in ["size limit", "indexes"] { #expect(checked.contains("ok    \(subject): "), "\(checked)") }

        let running = try RunningProgram(URL(filePath: program), ["run", "-d", "-c", settings])
        defer { running.kill(SIGKILL) }
        try await eventually("the account is added") {
            try await run(program, "accounts", "list", "-c", settings).contains("added")
        }
        _ = try await run(program, "backup", "daily", "-c", settings)
        let jobs = try await run(program, "jobs", "list", "--type", "Backup", "--json", "-c", settings)
        let job = try JSONDecoder().decode(JobLine.self, from: Data(jobs.utf8)).job
        #expect(job.result == .success, "\(job)")
        if geteuid() == 0 {
            #expect(checked.contains("ok    SNAPSHOTS: readonly"))
            let again = try await run(program, "check", "-c", settings)
            #expect(again.contains("ok    SNAPSHOTS: in effect for 1 home"), "\(again)")
        }
        running.kill(SIGTERM)
        #expect(await running.end() == 0)

        // docs/many-servers.md: daemons that share accounts.
        _ = try await run(program, "ldif", "load", "--server", uri, "\(pieces)/provisioning-claim.ldif")
        let claim = try await run(program, "ldif", "site", "--base", Self.base, "--claim")
        _ = try await run(
            "/usr/bin/ldapmodify", "-Q", "-Y", "EXTERNAL", "-H", uri, "-f", try write("claim.ldif", claim))
        try await load(try write("claimable.ldif", Self.claimableAccount))
        let shared = try write(
            "Shared.conf",
            try String(contentsOfFile: settings, encoding: .utf8)
                .replacing("[Attributes]\n", with: "[Attributes]\nCLAIM = provisioningClaim\n"))
        _ = try await run(program, "check", "-c", shared)
        _ = try await run(program, "run", "--once", "-c", shared)
        #expect(try await run(program, "accounts", "list", "-c", shared).contains("modified"))

        let daemon = try await LDAPConnection.open(
            ServerAddress(parsing: uri),
            options: ConnectionOptions(
                credentials: .simple(bindDN: try DN(parsing: daemonDN), password: Secret("secret"))))
        defer { daemon.close() }
        let account = try await daemon.entry(
            at: DN(parsing: "uid=3724300,\(Self.accounts)"),
            attributes: [
                "uid", "userPassword", "sstBackupSize", "sstIncrementSize", "sstBackupLastSuccessfulBackup",
            ])
        #expect(account?.text("uid") == "3724300")
        for name: AttributeName in ["sstBackupSize", "sstIncrementSize", "sstBackupLastSuccessfulBackup"] {
            #expect(account?.text(name) != nil, "\(name)")
        }
        #expect(account?["userPassword"].isEmpty == true, "the daemon must not read passwords")
    }

    /// The shipped settings with `[Database]` as in docs/install.md, and with everything below a directory of the test's own.
    private func shippedSettings(in directory: URL, server: String, passwordFile: String) throws -> String {
        let backup = DaemonHarness.checkout.appending(path: "etc/Provisioning/Backup")
        let install = try DocumentationPage("docs/install.md")
        let database = try install.block("database settings")
        let shipped = try String(contentsOf: backup.appending(path: "Rsnapshot.conf.template"), encoding: .utf8)
        let given = Set(
            database.split(separator: "\n").map { String($0.prefix { $0 != " " }) } + ["SASL_MECHANISM"]
                // Only root can mount.
                + (geteuid() == 0 ? [] : ["SNAPSHOTS"]))
        let kept = shipped.split(separator: "\n").filter { line in !given.contains(String(line.prefix { $0 != " " })) }
        let written = database.replacing("ldaps://ldap.example.org", with: server)
            .replacing("/etc/Provisioning/Backup/admin-password", with: passwordFile)
        #expect(written.contains(server) && written.contains(passwordFile))
        let own = [
            "[Database]": written, "[Backup Jobs]": try install.block("schedule settings"),
            "[Service]": "STATE_DIRECTORY = \(directory.path)/state\nRUNTIME_DIRECTORY = \(directory.path)/run\n",
            "[Backup]": """
            HOME_ROOTS = \(directory.path)/homes
            HOME_SCRIPT =
            OWNERSHIP = \(geteuid() == 0 ? "account" : "none")
            RSNAPSHOT_CONFIG_DIRECTORY = \(directory.path)/rsnapshot.d
            RSNAPSHOT_TEMPLATE = \(backup.path)/rsnapshot-account.conf.template

            """,
        ]
        return kept.map { line in "\(line)\n\(own[String(line)] ?? "")" }.joined()
    }

    /// With which Debian's slapd begins.
    private static let base = "dc=nodomain"
    private static let accounts = "ou=accounts,ou=backup,ou=services,\(base)"

    private static let claimableAccount = """
        dn: uid=3724300,\(accounts)
        changetype: modify
        add: objectClass
        objectClass: provisioningClaimable
        -
        replace: sstProvisioningMode
        sstProvisioningMode: modify
        -
        replace: sstProvisioningState
        sstProvisioningState: 0

        """

    /// The DNs of all entries that anybody can read.
    private func anonymous(_ uri: String) async throws -> [String] {
        let connection = try await LDAPConnection.open(ServerAddress(parsing: uri))
        defer { connection.close() }
        var found: [String] = []
        let request = SearchRequest(
            base: try DN(parsing: Self.base), filter: .present("objectClass"), attributes: ["1.1"])
        for try await entry in connection.search(request) { found.append(entry.dn.description) }
        return found
    }

    private static let homeOfSiteAccount = "0/300/724/3724300/chroot/home/3724300"

    private func accountWithPassword(homes: String) throws -> String {
        let parameters = TestLDIFs(
            uid: "3724300", base: try DN(parsing: Self.accounts), homeRoot: FilePath(homes))
        let add = try #require(try parameters.files().first)
        return add.text.replacingOccurrences(of: "uid: 3724300\n", with: "uid: 3724300\nuserPassword: secret\n")
    }
}
