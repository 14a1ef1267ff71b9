import LDAP
import Foundation
import Glibc
import JobCore
import Provisioning
import SystemPackage
import TestSupport
import Testing

@testable import BackupService

private let uid: UInt32 = 3_723_707
private let stranger: UInt32 = 4_000_001
private let home: FilePath = "homes/3723707/chroot/home/3723707"

/// Older homes, which their accounts could change.
@Suite(.enabled(if: isRoot, "needs root")) struct HomeTakeOverTests {
    private let files: TestDirectory

    init() throws { files = try TestDirectory() }

    private var entry: Entry {
        accountEntry(home: files.homes.string + "/3723707/chroot/./home/3723707")
    }

    /// The directories from the account's own to `.snapshots`, of which the account owns all.
    @discardableResult
    private func makeOldHome(mode: mode_t = 0o775) throws -> [FilePath] {
        let ways: [FilePath] = [
            "homes/3723707", "homes/3723707/chroot", "homes/3723707/chroot/home", home,
            home.appending(".snapshots"),
        ]
        for way in ways { try files.makeDirectory(way, mode: mode, owner: uid) }
        try files.makeDirectory(home.pushing(".snapshots/daily.0"), mode: 0o700, owner: uid)
        try files.makeDirectory(home.appending("incoming"), mode: 0o700, owner: uid)
        return ways.map { files.path.pushing($0) }
    }

    private func service(
        _ change: (inout BackupConfiguration) -> Void = { _ in }
    ) throws -> BackupRsnapshotService {
        try BackupRsnapshotService(configuration: files.configuration(change))
    }

    // MARK: - Taken over

    @Test(
        "all directories of the path become root's before the script runs; a dry run lists them, and the next one has none"
    )
    func becomesRoots() async throws {
        let ways = try makeOldHome()
        let script = try files.script(
            "stat -c '%U %a' \(ways.map(\.string).joined(separator: " ")) > \(files.path)/seen")
        let service = try service { $0.homeScript = script }
        let plan = try await service.plan(request(.modify, entry))
        #expect(plan.map(\.name).starts(with: ["take over", "home script"]))
        let lines = ways.map {
            "chown root:root, chmod go-w,a+\($0.lastComponent == ".snapshots" ? "rx" : "x"): \($0)"
        }
        #expect(plan[0].preview == lines.joined(separator: "\n"))
        let content = [".snapshots/daily.0", "incoming"].map { files.path.pushing(home).pushing($0) }
        let before = content.map { status($0)?.st_ino }

        try await service.carryOut(.modify, entry)
        #expect(try text(files.path.appending("seen")) == String(repeating: "root 755\n", count: ways.count))
        #expect(content.map { status($0)?.st_ino } == before)
        #expect(content.allSatisfy { status($0)?.st_uid == uid })
        #expect(try await !service.plan(request(.modify, entry)).map(\.name).contains("take over"))
    }

    @Test("an account can still enter its home and read its snapshots; others can only pass")
    func remainsUsable() async throws {
        let ways = try makeOldHome(mode: 0o700)
        try await service().carryOut(.add, entry)
        #expect(ways.map { status($0).map { $0.st_mode & 0o7777 } } == [0o711, 0o711, 0o711, 0o711, 0o755])
    }

    @Test("a directory of root's that others can write is taken over as well, also in a complete home")
    func writable() async throws {
        try await service().carryOut(.add, entry)
        let chroot = try files.makeDirectory("homes/3723707/chroot", mode: 0o2777)
        let plan = try await service().plan(request(.add, entry))
        #expect(plan.map(\.name).first == "take over")
        try await service().carryOut(.add, entry)
        #expect(status(chroot).map { $0.st_mode & 0o7777 } == 0o2755)
    }

    @Test(
        "rights given by ACLs are removed from the directory and do not apply to new files",
        .enabled(if: Program.isExecutable("/usr/bin/setfacl"), "needs setfacl: apt install acl"))
    func accessControlLists() async throws {
        let ways = try makeOldHome(mode: 0o755)
        let chroot = ways[1].string
        let result = try await ScriptRunner().run(
            ScriptInvocation(
                executable: "/usr/bin/setfacl",
                arguments: ["-m", "u:3723707:rwx,d:u:3723707:rwx,d:o::rwx", chroot],
                timeLimit: .seconds(30), grace: .seconds(1)))
        #expect(result.complaint == nil, "\(result.outputTail)")
        #expect(chown(chroot, 0, 0) == 0)
        try await service().carryOut(.add, entry)
        // As a program would that is put there.
        let file = open(chroot + "/program", O_WRONLY | O_CREAT, 0o666)
        close(file)
        #expect(access(chroot + "/program", F_OK) == 0)
        let attempts = ["echo x > \(chroot)/program", "mkdir \(chroot)/mine"]
        for attempt in attempts { #expect(try await !account(attempt)) }
    }

    /// Whether a command of the account's succeeds.
    private func account(_ command: String) async throws -> Bool {
        try await ScriptRunner().run(Self.customer(["/bin/sh", "-c", command])).complaint == nil
    }

    private static func customer(_ command: [String], timeLimit: Duration = .seconds(30)) -> ScriptInvocation {
        ScriptInvocation(
            executable: "/usr/bin/setpriv",
            arguments: ["--reuid=\(uid)", "--regid=\(uid)", "--clear-groups"] + command,
            environment: ["PATH": "/usr/bin:/bin"], timeLimit: timeLimit, grace: .seconds(1))
    }

    // MARK: - Refused

    /// A home with a file that may not be the account's own, or may be there for root to use.
    struct Suspicious: Sendable, CustomTestStringConvertible {
        let testDescription: String
        let reason: String
        let make: @Sendable (TestDirectory) throws -> Void

        init(_ description: String, _ reason: String, _ make: @escaping @Sendable (TestDirectory) throws -> Void) {
            (testDescription, self.reason, self.make) = (description, reason, make)
        }

        static let all: [Suspicious] = [
            Suspicious("a directory of a third user", "belongs to user 4000001") {
                try $0.makeDirectory(home, owner: stranger)
            },
            Suspicious("a link in the place of the home", "is a symbolic link") {
                try FileManager.default.removeItem(atPath: $0.path.pushing(home).string)
                try $0.makeDirectory("elsewhere", owner: stranger)
                try $0.link(home, to: $0.path.appending("elsewhere"))
            },
            Suspicious("a link of root's in the chroot, in which programs are put", "holds \"etc\"") {
                try $0.link("homes/3723707/chroot/etc", to: "/etc")
            },
            Suspicious("a file with control characters in its name in the chroot", "holds \"a") {
                try $0.write("", to: "homes/3723707/chroot/home/a\nb")
            },
            Suspicious("a link of root's among the snapshots", "holds \"daily.6\"") {
                try $0.link(home.pushing(".snapshots/daily.6"), to: "/etc")
            },
            Suspicious("a state file of the account's among the snapshots", "holds \".state\"") {
                let file = try $0.write("{}", to: home.pushing(".snapshots/.state"))
                guard chown(file.string, uid, uid) == 0 else { throw Errno(rawValue: errno) }
            },
        ]
    }

    @Test(
        "files that may not be the account's own are refused with their path, and nothing is changed",
        arguments: Suspicious.all)
    func refused(_ suspicious: Suspicious) async throws {
        try makeOldHome()
        try suspicious.make(files)
        let service = try service()
        let before = try files.listing()
        for operation in [Operation.add, .modify] {
            let failure = try await service.failure(operation, entry)
            #expect(failure?.code == .cannotCheckHomeDirPresence)
            #expect(failure?.reason.contains(suspicious.reason) == true, "\(failure?.reason ?? "was taken")")
            #expect(failure?.reason.unicodeScalars.contains { $0.properties.generalCategory == .control } == false)
            #expect(failure?.hint.isEmpty == false)
        }
        #expect(try files.listing() == before)
    }

    @Test(
        "a subvolume among the snapshots is refused, and nothing is changed",
        .enabled(if: canMountBtrfs, "needs root, loop devices and btrfs-progs"))
    func subvolume() async throws {
        try await mountBtrfs(in: files)
        try makeOldHome()
        try await runTool(
            "/usr/bin/btrfs", "subvolume", "create", files.path.pushing(home).pushing(".snapshots/mine").string)
        let service = try service()
        let before = try files.listing()
        let failure = try await service.failure(.modify, entry)
        #expect(failure?.reason.contains("holds \"mine\"") == true, "\(failure?.reason ?? "was taken")")
        #expect(failure?.hint.contains("none of them a subvolume") == true)
        #expect(try files.listing() == before)
    }

    @Test("a mount that the account could change is refused, and nothing is changed")
    func mount() async throws {
        let ways = try makeOldHome()
        let mount = try TestMount(at: ways[3], options: "mode=0755,uid=3723707")
        defer { withExtendedLifetime(mount) {} }
        let service = try service()
        let before = try files.listing()
        let failure = try await service.failure(.modify, entry)
        #expect(failure?.reason.contains("is a mount") == true, "\(failure?.reason ?? "was taken")")
        #expect(try files.listing() == before)
    }

    @Test(
        "what the account puts into its chroot after the plan was made is found, and the chroot is the account's again")
    func addedLater() async throws {
        let ways = try makeOldHome()
        let step = try #require(try await service().plan(request(.modify, entry)).first)
        try files.link("homes/3723707/chroot/etc", to: "/etc")
        let failure = await #expect(throws: ProvisioningFailure.self) { try await step.perform(in: .alone()) }
        #expect(failure?.reason.contains("holds \"etc\"") == true)
        #expect(ways.map { status($0)?.st_uid } == [0] + Array(repeating: uid, count: 4))
        #expect(status(ways[1]).map { $0.st_mode & 0o7777 } == 0o775)
    }

    @Test("with OWNERSHIP = none nothing is taken over")
    func ownershipNone() async throws {
        try makeOldHome()
        let service = try service { $0.ownership = .none }
        let before = try files.listing()
        let failure = try await service.failure(.modify, entry)
        #expect(failure?.code == .cannotCheckHomeDirPresence)
        #expect(failure?.reason.contains("belongs to user \(uid)") == true)
        #expect(try files.listing() == before)
    }

    @Test("a home that is taken over is locked against other daemons as well")
    func locked() async throws {
        try makeOldHome()
        let service = try service()
        let lock = try await service.lock(entry)
        #expect(try await service.lock(entry) == nil)
        withExtendedLifetime(lock) {}
    }

    @Test("a directory that the account has made under a temporary name is not used")
    func madeBefore() async throws {
        try makeOldHome()
        let made = try files.makeDirectory(home.appending(".new-3723707-.ssh"), owner: uid)
        try files.write("", to: home.pushing(".new-3723707-.ssh/authorized_keys"))
        let failure = try await service().failure(.modify, entry)
        #expect(failure?.code == .cannotCreateHomeDir)
        #expect(failure?.hint.contains(made.string) == true, "\(failure?.hint ?? "was taken")")
        #expect(!exists(files.path.pushing(home).appending(".ssh")))
    }

    // MARK: - Attack

    /// Exchanges each directory of the path with a prepared one, again and again, until it is released.
    private static let exchanges = #"""
        use POSIX; alarm 600; my ($top, $decoys) = @ARGV; my $call = { x86_64 => 316, aarch64 => 276 }->{ (POSIX::uname())[4] } or die;
        my $way = "$top/3723707"; my @pairs;
        for my $name ("chroot", "home", "3723707", ".snapshots") {
            $way .= "/$name"; unshift @pairs, [$way, "$decoys/$name"];
        }
        sub x { my ($a, $b) = @_; syscall($call, -100, $a, -100, $b, 2) }
        open(my $ready, ">", "$decoys/ready") or die; close $ready;
        while (1) { for (@pairs) { x(@$_); x(@$_) } for (@pairs) { x(@$_) } for (reverse @pairs) { x(@$_) } }
        """#

    @Test(
        "while the account replaces directories during repeated take-overs, nothing outside its directory is changed",
        arguments: [false, true])
    func attack(withScript: Bool) async throws {
        let ways = try makeOldHome()
        let decoys = try files.makeDirectory("decoys", owner: uid)
        // A link to a third user's directories for each directory of the way but the first.
        var outside: FilePath = "outside"
        for (name, target) in zip(["chroot", "home", "3723707", ".snapshots"], ["", "home", "3723707", ".snapshots"]) {
            outside.append(target)
            try files.makeDirectory(outside, owner: stranger)
            try files.link(FilePath("decoys/\(name)"), to: files.path.pushing(outside))
        }
        let before = try outsideListing()
        let held = try ways.map {
            try FileDescriptor.open($0, .readOnly, options: [.directory, .noFollow, .closeOnExec])
        }
        defer { for descriptor in held { try? descriptor.close() } }
        let service = try service {
            $0.homeScript = withScript ? shippedScript : nil
            // Without jailkit, which takes long.
            $0.programDirectories = ["/usr/bin", "/bin"]
        }
        let attack = Self.customer(
            ["/usr/bin/perl", "-e", Self.exchanges, files.homes.string, decoys.string], timeLimit: .seconds(600))
        let thief = Task { try await ScriptRunner().run(attack) }
        try await eventually("the account has begun") { exists(decoys.appending("ready")) }
        for _ in 0..<(withScript ? 20 : 200) {
            for descriptor in held {
                #expect(fchown(descriptor.rawValue, uid, uid) == 0)
                #expect(fchmod(descriptor.rawValue, 0o775) == 0)
            }
            // It does all that it says, or refuses.
            guard try await service.failure(.modify, entry) == nil else { continue }
            #expect(try await !service.plan(request(.modify, entry)).map(\.name).contains("take over"))
        }
        thief.cancel()
        _ = try? await thief.value
        #expect(try outsideListing() == before)

        // With all in its place it gets its home.
        for way in ways.dropFirst() where status(way).map({ $0.st_mode & S_IFMT }) == S_IFLNK {
            let decoy = decoys.appending(try #require(way.lastComponent))
            #expect(unlink(way.string) == 0)
            #expect(rename(decoy.string, way.string) == 0)
        }
        try await service.carryOut(.modify, entry)
        #expect(ways.allSatisfy { status($0)?.st_uid == 0 })
        #expect(try outsideListing() == before)
    }

    private func outsideListing() throws -> [String] {
        let outside = files.path.appending("outside").string
        return try files.listing().filter { $0.hasPrefix(outside) }
    }
}
