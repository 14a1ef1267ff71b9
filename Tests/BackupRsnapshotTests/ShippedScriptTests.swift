import Foundation
import JobCore
import Provisioning
import SystemPackage
import Testing

@testable import BackupRsnapshot

/// `etc/Provisioning/Backup/create-chroot.sh`, run as the daemon runs it.
@Suite struct ShippedScriptTests {
    private func run(
        _ arguments: [String], action: String = "add", ownership: String = isRoot ? "account" : "none"
    ) async throws -> ScriptResult {
        try await ScriptRunner().run(
            ScriptInvocation(
                executable: shippedScript, arguments: arguments,
                environment: [
                    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PROV_ACTION": action, "PROV_OWNERSHIP": ownership,
                ],
                timeLimit: .seconds(60), grace: .seconds(1)))
    }

    /// jailkit makes no chroot below a folder that others can write, such as /tmp.
    private func chrootFolder() throws -> TestFolder { try TestFolder(in: isRoot ? "/run" : "/tmp") }

    private func run(_ home: FilePath) async throws -> ScriptResult {
        try await run(["3723707", home.string, "3723707", "3723707"])
    }

    @Test("it makes the home and all above it, with owners and modes by which it is safe")
    func makes() async throws {
        let folder = try chrootFolder()
        let account = folder.homes.pushing("7/707/723/3723707")
        let result = try await run(["3723707", account.string + "/chroot/./home/3723707", "3723707", "3723707"])
        #expect(result.complaint == nil, "\(result.outputTail)")
        let home = account.pushing("chroot/home/3723707")
        let daemon = geteuid()
        let own = isRoot ? 3_723_707 : daemon
        var expected: [(FilePath, mode_t, UInt32)] = [
            (home.appending("incoming"), 0o750, own), (home.appending(".ssh"), 0o700, own),
            (home.appending(".snapshots"), 0o755, daemon),
        ]
        var path = home
        while path != folder.homes {
            expected.append((path, 0o755, daemon))
            path.removeLastComponent()
        }
        for (path, mode, owner) in expected {
            #expect(status(path).map { $0.st_mode & 0o7777 } == mode, "\(path)")
            #expect(status(path)?.st_uid == owner, "\(path)")
        }
        #expect(!exists(home.pushing(".ssh/authorized_keys")))
    }

    @Test("run again it changes nothing, whatever the account has done in its own folders")
    func idempotent() async throws {
        let folder = try TestFolder()
        let home = folder.homes.appending("3723707")
        #expect(try await run(home).complaint == nil)
        try folder.write("precious", to: "homes/3723707/incoming/file")
        #expect(chmod(home.appending("incoming").string, 0o711) == 0)
        let before = try folder.listing()
        #expect(try await run(home).complaint == nil)
        #expect(try folder.listing() == before)
    }

    @Test("what a crash left half made is finished")
    func resumes() async throws {
        let folder = try TestFolder()
        try folder.makeFolder("homes/3723707/.new-3723707-incoming", mode: 0o700)
        let home = folder.homes.appending("3723707")
        #expect(try await run(home).complaint == nil)
        #expect(!exists(home.appending(".new-3723707-incoming")))
        #expect(status(home.appending("incoming")).map { $0.st_mode & 0o777 } == 0o750)
    }

    @Test("delete takes nothing away: the daemon handles the home")
    func delete() async throws {
        let folder = try TestFolder()
        let home = folder.homes.appending("3723707")
        #expect(try await run(home).complaint == nil)
        let before = try folder.listing()
        #expect(try await run(["3723707", home.string, "3723707", "3723707"], action: "delete").complaint == nil)
        #expect(try folder.listing() == before)
    }

    @Test(
        "surprising arguments are refused, and nothing is made",
        arguments: [
            [], ["3723707"], ["3723707", "HOMES/3723707", "3723707"],
            ["3723707", "HOMES/3723707", "3723707", "3723707", "more"], ["-rf", "HOMES/-rf", "3723707", "3723707"],
            ["../../etc", "HOMES/../../etc", "3723707", "3723707"], ["3723707", "3723707", "3723707", "3723707"],
            ["3723707", "HOMES/4000001", "3723707", "3723707"], ["3723707", "HOMES/../3723707", "3723707", "3723707"],
            ["3723707", "HOMES/a b/3723707", "3723707", "3723707"],
            ["3723707", "HOMES/x\n/3723707", "3723707", "3723707"],
            ["3723707", "HOMES/./a/./3723707", "3723707", "3723707"], ["3723707", "HOMES/3723707", "0", "0"],
            ["3723707", "HOMES/3723707", "4000001", "3723707"], ["3723707", "HOMES/3723707", "3723707", "0"],
        ])
    func surprising(arguments: [String]) async throws {
        let folder = try TestFolder()
        let before = try folder.listing()
        let result = try await run(arguments.map { $0.replacing("HOMES", with: folder.homes.string) })
        #expect(result.termination == .exited(code: 1), "\(result.outputTail)")
        #expect(result.outputTail.hasPrefix("create-chroot.sh: "))
        #expect(try folder.listing() == before)
    }

    @Test("it is not led by links", arguments: ["3723707", "3723707/incoming", "3723707/.ssh", "3723707/.snapshots"])
    func links(place: String) async throws {
        let folder = try TestFolder()
        try folder.makeFolder("elsewhere", mode: 0o700)
        if place != "3723707" { try folder.makeFolder("homes/3723707") }
        try folder.link(FilePath("homes/" + place), to: folder.path.appending("elsewhere"))
        let before = status(folder.path.appending("elsewhere"))?.st_mode
        let result = try await run(folder.homes.appending("3723707"))
        #expect(result.outputTail.contains("is a symbolic link"))
        #expect(try FileManager.default.contentsOfDirectory(atPath: folder.path.appending("elsewhere").string) == [])
        #expect(status(folder.path.appending("elsewhere"))?.st_mode == before)
    }

    @Test("needs root: a home of an earlier time that the account owns becomes root's", .enabled(if: isRoot))
    func takesOver() async throws {
        let folder = try TestFolder()
        let home = try folder.makeFolder("homes/3723707", mode: 0o775, owner: 3_723_707)
        try folder.makeFolder("homes/3723707/.snapshots", owner: 3_723_707)
        #expect(try await run(home).complaint == nil)
        #expect(status(home)?.st_uid == 0)
        #expect(status(home).map { $0.st_mode & 0o777 } == 0o755)
        #expect(status(home.appending(".snapshots"))?.st_uid == 0)
    }

    @Test(
        "needs root: nothing is written through what the account left in a chroot of an earlier time",
        .enabled(if: isRoot), arguments: [true, false])
    func leftInChroot(asLink: Bool) async throws {
        let folder = try chrootFolder()
        let elsewhere = try folder.makeFolder("elsewhere")
        try folder.write("root:x:0:0::/root:/bin/sh\n", to: "elsewhere/passwd")
        let chroot = try folder.makeFolder("homes/3723707/chroot", owner: 3_723_707)
        let etc = chroot.appending("etc")
        if asLink {
            try folder.link("homes/3723707/chroot/etc", to: elsewhere)
            #expect(lchown(etc.string, 3_723_707, 3_723_707) == 0)
        } else {
            try folder.makeFolder("homes/3723707/chroot/etc", owner: 3_723_707)
        }
        let programs = try folder.makeFolder("programs")
        try folder.write("#!/bin/sh\n", to: "programs/jk_init", mode: 0o755)
        let result = try await ScriptRunner().run(
            ScriptInvocation(
                executable: shippedScript,
                arguments: ["3723707", chroot.string + "/./home/3723707", "3723707", "3723707"],
                environment: [
                    "PATH": "\(programs):/usr/sbin:/usr/bin:/sbin:/bin", "PROV_ACTION": "add",
                    "PROV_OWNERSHIP": "account",
                ], timeLimit: .seconds(60), grace: .seconds(1)))
        #expect(result.termination == .exited(code: 1), "\(result.outputTail)")
        #expect(result.outputTail.contains("\(etc), where programs are put"), "\(result.outputTail)")
        #expect(try text(elsewhere.appending("passwd")) == "root:x:0:0::/root:/bin/sh\n")
        #expect(!exists(etc.appending("passwd")) || asLink)
    }

    @Test(
        "needs root: a link that the account left among its snapshots keeps rsnapshot away", .enabled(if: isRoot))
    func linkAmongSnapshots() async throws {
        let folder = try chrootFolder()
        let elsewhere = try folder.makeFolder("elsewhere")
        let home = try folder.makeFolder("homes/3723707", owner: 3_723_707)
        try folder.makeFolder("homes/3723707/.snapshots", owner: 3_723_707)
        try folder.link("homes/3723707/.snapshots/daily.6", to: elsewhere)
        #expect(lchown(home.pushing(".snapshots/daily.6").string, 3_723_707, 3_723_707) == 0)
        let configuration = try folder.configuration { $0.homeScript = shippedScript }
        // Also once the folders are root's.
        for _ in 1...2 {
            let failure = try await BackupRsnapshotService(configuration: configuration)
                .failure(.add, accountEntry(home: home.string))
            #expect(failure?.code == .cannotCreateHomeDir)
            #expect(failure?.reason.contains(".snapshots/daily.6") == true, "\(failure?.reason ?? "")")
        }
        #expect(!exists(folder.configurations.appending("3723707.conf")))
    }

    @Test("with ownership none it works for whoever runs it, and gives nothing away")
    func ordinaryUser() async throws {
        let folder = try TestFolder()
        let home = folder.homes.appending("3723707")
        let result = try await run(["3723707", home.string, "3723707", "3723707"], ownership: "none")
        #expect(result.complaint == nil, "\(result.outputTail)")
        #expect(status(home.appending("incoming"))?.st_uid == geteuid())
    }

    @Test("the daemon is content with what it makes")
    func together() async throws {
        let folder = try chrootFolder()
        let configuration = try folder.configuration { $0.homeScript = shippedScript }
        let home = folder.homes.string + "/7/707/723/3723707/chroot/./home/3723707"
        try await BackupRsnapshotService(configuration: configuration).carryOut(.add, accountEntry(home: home))
        #expect(exists(folder.configurations.appending("3723707.conf")))
    }

    @Test(
        "needs root and jailkit: the chroot has what a client needs, again without change, and is removed whole",
        .enabled(
            if: isRoot && Program.isExecutable("/usr/sbin/jk_init"), "needs root and jailkit: apt install jailkit"))
    func wholeChroot() async throws {
        let folder = try chrootFolder()
        let configuration = try folder.configuration {
            $0.homeScript = shippedScript
            $0.onDelete = .remove
        }
        let service = BackupRsnapshotService(configuration: configuration)
        let entry = accountEntry(home: folder.homes.string + "/3723707/chroot/./home/3723707")
        for _ in 1...2 { try await service.carryOut(.modify, entry) }
        let chroot = folder.homes.pushing("3723707/chroot")
        let rsync = try await ScriptRunner().run(
            ScriptInvocation(
                executable: "/usr/sbin/chroot",
                arguments: ["--userspec=3723707:3723707", chroot.string, "/usr/bin/rsync", "--version"],
                timeLimit: .seconds(30), grace: .seconds(1)))
        #expect(rsync.complaint == nil, "\(rsync.outputTail)")
        let users = try text(chroot.pushing("etc/passwd")).split(separator: "\n").filter { $0.hasPrefix("3723707:") }
        #expect(users == ["3723707:x:3723707:3723707::/home/3723707:/bin/sh"])
        try await service.carryOut(.delete, entry)
        #expect(!exists(folder.homes.appending("3723707")))
    }
}
