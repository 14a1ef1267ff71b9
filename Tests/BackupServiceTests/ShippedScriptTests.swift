import Foundation
import Glibc
import JobCore
import Provisioning
import SystemPackage
import Testing

@testable import BackupService

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

    /// jailkit makes no chroot below a directory that others can write, such as /tmp.
    private func chrootDirectory() throws -> TestDirectory { try TestDirectory(in: isRoot ? "/run" : "/tmp") }

    private func run(_ home: FilePath) async throws -> ScriptResult {
        try await run(["3723707", home.string, "3723707", "3723707"])
    }

    /// Runs the script as the daemon does, for an account with a chroot.
    /// - Parameter jailkit: runs instead of `jk_init`, which would fill the chroot.
    private func fill(
        _ chroot: FilePath, of directory: TestDirectory, for action: String, jailkit: String = ""
    ) async throws -> ScriptResult {
        let programs = try directory.makeDirectory("programs")
        try directory.write("#!/bin/sh\n\(jailkit)\n", to: "programs/jk_init", mode: 0o755)
        return try await ScriptRunner().run(
            ScriptInvocation(
                executable: shippedScript,
                arguments: ["3723707", chroot.string + "/./home/3723707", "3723707", "3723707"],
                environment: [
                    "PATH": "\(programs):/usr/sbin:/usr/bin:/sbin:/bin", "PROV_ACTION": action,
                    "PROV_OWNERSHIP": "account",
                ], timeLimit: .seconds(60), grace: .seconds(1)))
    }

    @Test("the script makes the home and the directories above it, with safe owners and modes")
    func makes() async throws {
        let directory = try chrootDirectory()
        let account = directory.homes.pushing("7/707/723/3723707")
        let result = try await run(["3723707", account.string + "/chroot/./home/3723707", "3723707", "3723707"])
        #expect(result.complaint == nil, "\(result.outputTail)")
        let home = account.pushing("chroot/home/3723707")
        let daemon = geteuid()
        var path = home
        while path != directory.homes {
            #expect(status(path).map { $0.st_mode & 0o7777 } == 0o755, "\(path)")
            #expect(status(path)?.st_uid == daemon, "\(path)")
            path.removeLastComponent()
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: home.string) == [], "the daemon makes the rest")
    }

    @Test("a second run changes nothing, also after changes of the account in its own directories")
    func idempotent() async throws {
        let directory = try TestDirectory()
        let home = directory.homes.appending("3723707")
        #expect(try await run(home).complaint == nil)
        try directory.makeDirectory("homes/3723707/incoming", mode: 0o777)
        try directory.write("precious", to: "homes/3723707/incoming/file")
        try directory.link("homes/3723707/.ssh", to: "/etc")
        let before = try directory.listing()
        #expect(try await run(home).complaint == nil)
        #expect(try directory.listing() == before)
    }

    @Test("delete removes nothing: the daemon handles the home")
    func delete() async throws {
        let directory = try TestDirectory()
        let home = directory.homes.appending("3723707")
        #expect(try await run(home).complaint == nil)
        let before = try directory.listing()
        #expect(try await run(["3723707", home.string, "3723707", "3723707"], action: "delete").complaint == nil)
        #expect(try directory.listing() == before)
    }

    @Test(
        "invalid arguments are refused, and nothing is made",
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
        let directory = try TestDirectory()
        let before = try directory.listing()
        let result = try await run(arguments.map { $0.replacing("HOMES", with: directory.homes.string) })
        #expect(result.termination == .exited(code: 1), "\(result.outputTail)")
        #expect(result.outputTail.hasPrefix("create-chroot.sh: "))
        #expect(try directory.listing() == before)
    }

    @Test(
        "the script does not follow links of the account",
        arguments: ["3723707", "3723707/chroot", "3723707/chroot/home"])
    func links(place: String) async throws {
        let directory = try TestDirectory()
        let elsewhere = try directory.makeDirectory("elsewhere", mode: 0o700)
        try directory.makeDirectory(FilePath("homes/" + place).removingLastComponent())
        try directory.link(FilePath("homes/" + place), to: elsewhere)
        let before = status(elsewhere)?.st_mode
        let home = directory.homes.string + "/3723707/chroot/./home/3723707"
        let result = try await run(["3723707", home, "3723707", "3723707"])
        #expect(result.termination == .exited(code: 1))
        #expect(result.outputTail.contains("/\(place) is a symbolic link"), "\(result.outputTail)")
        #expect(try FileManager.default.contentsOfDirectory(atPath: elsewhere.string) == [])
        #expect(status(elsewhere)?.st_mode == before)
    }

    @Test("a link above the account's directory is accepted")
    func linkAbove() async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("disk/7")
        try directory.link("homes/7", to: directory.path.pushing("disk/7"))
        #expect(try await run(directory.homes.pushing("7/707/3723707")).complaint == nil)
        #expect(exists(directory.path.pushing("disk/7/707/3723707")))
    }

    @Test(
        "needs root: a directory above the home that is not root's is refused, and so is another user's link in /tmp",
        .enabled(if: isRoot), arguments: ["owner", "link"])
    func farAbove(what: String) async throws {
        let directory = try TestDirectory()
        if what == "owner" {
            try directory.makeDirectory("bob/roots/homes")
            #expect(chown(directory.path.appending("bob").string, 3_723_707, 3_723_707) == 0)
        } else {
            try directory.makeDirectory("shared", mode: 0o1777)
            try directory.makeDirectory("elsewhere/roots/homes")
            try directory.link("shared/bob", to: directory.path.appending("elsewhere"))
            #expect(lchown(directory.path.pushing("shared/bob").string, 3_723_707, 3_723_707) == 0)
        }
        let bobs = directory.path.pushing(what == "owner" ? "bob" : "shared/bob")
        let before = try directory.listing()
        let result = try await run(bobs.pushing("roots/homes/3723707"))
        #expect(result.termination == .exited(code: 1))
        #expect(result.outputTail.contains("\(bobs) can be changed by others than root"), "\(result.outputTail)")
        #expect(try directory.listing() == before)
    }

    @Test("needs root: files of the account in the chroot's /tmp do not prevent a later modify", .enabled(if: isRoot))
    func temporaryFiles() async throws {
        let directory = try chrootDirectory()
        let chroot = try directory.makeDirectory("homes/3723707/chroot")
        try directory.makeDirectory("homes/3723707/chroot/tmp", mode: 0o1777)
        try directory.makeDirectory("homes/3723707/chroot/tmp/deep", mode: 0o777, owner: 3_723_707)
        try directory.write("x", to: "homes/3723707/chroot/tmp/file", mode: 0o666)
        #expect(chown(chroot.pushing("tmp/file").string, 3_723_707, 3_723_707) == 0)
        let result = try await fill(chroot, of: directory, for: "modify")
        #expect(result.complaint == nil, "\(result.outputTail)")
    }

    @Test(
        "needs root: run by hand it refuses what others than root can change, and makes nothing", .enabled(if: isRoot),
        arguments: ["homes/7", "homes/7/3723707", "homes/7/3723707/chroot"], [0o755, 0o775] as [mode_t])
    func untrusted(place: String, mode: mode_t) async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory(FilePath(place), mode: mode, owner: mode == 0o755 ? 3_723_707 : nil)
        let before = try directory.listing()
        let home = directory.homes.string + "/7/3723707/chroot/./home/3723707"
        let result = try await run(["3723707", home, "3723707", "3723707"])
        #expect(result.termination == .exited(code: 1))
        #expect(result.outputTail.contains("\(place)"), "\(result.outputTail)")
        #expect(result.outputTail.contains("can be changed by others than root"), "\(result.outputTail)")
        #expect(try directory.listing() == before)
    }

    @Test(
        "needs root: nothing is written through links that the account has left in an older chroot",
        .enabled(if: isRoot), arguments: ["link", "directory", "writable"])
    func leftInChroot(what: String) async throws {
        let directory = try chrootDirectory()
        let elsewhere = try directory.makeDirectory("elsewhere")
        try directory.write("root:x:0:0::/root:/bin/sh\n", to: "elsewhere/passwd")
        let chroot = try directory.makeDirectory("homes/3723707/chroot")
        let etc = chroot.appending("etc")
        switch what {
        case "link":
            try directory.link("homes/3723707/chroot/etc", to: elsewhere)
            #expect(lchown(etc.string, 3_723_707, 3_723_707) == 0)
        case "directory": try directory.makeDirectory("homes/3723707/chroot/etc", owner: 3_723_707)
        default: try directory.makeDirectory("homes/3723707/chroot/etc", mode: 0o777)
        }
        let result = try await fill(chroot, of: directory, for: "add")
        #expect(result.termination == .exited(code: 1), "\(result.outputTail)")
        #expect(result.outputTail.contains("\(etc), where programs are put"), "\(result.outputTail)")
        #expect(try text(elsewhere.appending("passwd")) == "root:x:0:0::/root:/bin/sh\n")
        #expect(!exists(etc.appending("passwd")) || what == "link")
    }

    @Test(
        "needs root: a link of the account among its snapshots prevents the use of rsnapshot", .enabled(if: isRoot))
    func linkAmongSnapshots() async throws {
        let directory = try chrootDirectory()
        let elsewhere = try directory.makeDirectory("elsewhere")
        let home = try directory.makeDirectory("homes/3723707", owner: 3_723_707)
        try directory.makeDirectory("homes/3723707/.snapshots", owner: 3_723_707)
        try directory.link("homes/3723707/.snapshots/daily.6", to: elsewhere)
        #expect(lchown(home.pushing(".snapshots/daily.6").string, 3_723_707, 3_723_707) == 0)
        let configuration = try directory.configuration { $0.homeScript = shippedScript }
        // Also when it is tried again.
        for _ in 1...2 {
            let failure = try await BackupRsnapshotService(configuration: configuration)
                .failure(.add, accountEntry(home: home.string))
            #expect(failure?.code == .cannotCheckHomeDirPresence)
            #expect(failure?.reason.contains(".snapshots does not belong to root alone and holds \"daily.6\"") == true)
        }
        #expect(!exists(directory.configurations.appending("3723707.conf")))
    }

    @Test(
        "needs root: a chroot whose programs were not copied in whole, or by a run that was killed, is not success, and the next run copies all of them again",
        .enabled(if: isRoot),
        arguments: [
            ("echo 'Copying /a'; echo 'ERROR: copying file /b: No space left on device' >&2", 75),
            ("echo 'no such section' >&2; exit 1", 1), ("kill -9 0", nil),
        ])
    func incomplete(fault: String, status: Int32?) async throws {
        let directory = try chrootDirectory()
        let chroot = try directory.makeDirectory("homes/3723707/chroot")
        let record = directory.path.appending("arguments")
        let jailkit = "echo \"$*\" >> \(record)"
        let first = try await fill(chroot, of: directory, for: "add", jailkit: "\(jailkit)\n\(fault)")
        #expect(first.termination == status.map { .exited(code: $0) } ?? .signaled(number: SIGKILL))
        for _ in 1...2 {
            let next = try await fill(chroot, of: directory, for: "modify", jailkit: jailkit)
            #expect(next.complaint == nil, "\(next.outputTail)")
        }
        let plain = "-j \(chroot) sftp scp rsync\n"
        #expect(try text(record) == "\(plain)-f \(plain)\(plain)")
    }

    @Test(
        "needs root: a full or read-only volume is to be tried again", .enabled(if: isRoot),
        arguments: ["mode=0755,nr_inodes=1", "mode=0755,size=8m"])
    func lacksRoom(options: String) async throws {
        let directory = try chrootDirectory()
        let volume = try TestMount(at: directory.homes, options: options)
        if options.hasSuffix("8m") {
            #expect(mount("none", directory.homes.string, "tmpfs", UInt(MS_REMOUNT | MS_RDONLY), "") == 0)
        }
        let result = try await run(directory.homes.appending("3723707"))
        #expect(result.termination == .exited(code: 75), "\(result.outputTail)")
        withExtendedLifetime(volume) {}
    }

    @Test("with ownership none it works for every user, and changes no owner")
    func ordinaryUser() async throws {
        let directory = try TestDirectory()
        let home = directory.homes.appending("3723707")
        let result = try await run(["3723707", home.string, "3723707", "3723707"], ownership: "none")
        #expect(result.complaint == nil, "\(result.outputTail)")
        #expect(status(home)?.st_uid == geteuid())
    }

    @Test("the daemon accepts the homes that the script makes")
    func together() async throws {
        let directory = try chrootDirectory()
        let configuration = try directory.configuration { $0.homeScript = shippedScript }
        let home = directory.homes.string + "/7/707/723/3723707/chroot/./home/3723707"
        try await BackupRsnapshotService(configuration: configuration).carryOut(.add, accountEntry(home: home))
        #expect(exists(directory.configurations.appending("3723707.conf")))
    }

    @Test(
        "needs root and jailkit: the chroot has what a client needs, again without change, and is removed whole",
        .enabled(
            if: isRoot && Program.isExecutable("/usr/sbin/jk_init"), "needs root and jailkit: apt install jailkit"))
    func wholeChroot() async throws {
        let directory = try chrootDirectory()
        let configuration = try directory.configuration {
            $0.homeScript = shippedScript
            $0.onDelete = .remove
        }
        let service = BackupRsnapshotService(configuration: configuration)
        let entry = accountEntry(home: directory.homes.string + "/3723707/chroot/./home/3723707")
        for _ in 1...2 { try await service.carryOut(.modify, entry) }
        let chroot = directory.homes.pushing("3723707/chroot")
        let rsync = try await ScriptRunner().run(
            ScriptInvocation(
                executable: "/usr/sbin/chroot",
                arguments: ["--userspec=3723707:3723707", chroot.string, "/usr/bin/rsync", "--version"],
                timeLimit: .seconds(30), grace: .seconds(1)))
        #expect(rsync.complaint == nil, "\(rsync.outputTail)")
        let users = try text(chroot.pushing("etc/passwd")).split(separator: "\n").filter { $0.hasPrefix("3723707:") }
        #expect(users == ["3723707:x:3723707:3723707::/home/3723707:/bin/sh"])
        try await service.carryOut(.delete, entry)
        #expect(!exists(directory.homes.appending("3723707")))
    }
}
