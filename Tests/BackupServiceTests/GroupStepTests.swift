import Foundation
import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage
import Testing

@testable import BackupService

/// The change of the group of an account's files.
@Suite(.enabled(if: isRoot, "only root changes owners")) struct GroupStepTests {
    private static let (user, old, new): (UInt32, UInt32, UInt32) = (3_723_707, 3_723_707, 5_000)

    /// A home with files of the account and of others.
    private static func makeHome(_ directory: TestDirectory, snapshots: String) throws {
        try directory.makeDirectory("homes/3723707/incoming/deep/deeper")
        try directory.makeDirectory("homes/3723707/.ssh")
        try directory.makeDirectory("homes/3723707/.snapshots")
        try directory.makeDirectory(FilePath("\(snapshots)/daily.0/incoming"))
        for name in [
            "homes/3723707/incoming/deep/deeper/file", "homes/3723707/.ssh/keys", "\(snapshots)/daily.0/incoming/file",
        ] {
            try directory.write("text", to: FilePath(name))
        }
        for name in ["homes/3723707/incoming", "homes/3723707/.ssh", "\(snapshots)/daily.0/incoming"] {
            let top = directory.path.pushing(FilePath(name))
            let names = FileManager.default.enumerator(atPath: top.string)?.compactMap { $0 as? String } ?? []
            for path in [top] + names.map({ top.pushing(FilePath($0)) }) { lchown(path.string, user, old) }
        }
        let incoming = directory.homes.pushing("3723707/incoming")
        symlink("/etc/passwd", incoming.appending("link").string)
        lchown(incoming.appending("link").string, user, old)
        try directory.write("another's", to: "homes/3723707/incoming/others")
        lchown(incoming.appending("others").string, 65_534, old)
        try directory.write("set-user-ID", to: "homes/3723707/incoming/suid")
        lchown(incoming.appending("suid").string, user, old)
        chmod(incoming.appending("suid").string, 0o6755)
        try directory.write("of another group", to: "homes/3723707/incoming/shared")
        lchown(incoming.appending("shared").string, user, 65_534)
    }

    private static func group(_ path: FilePath) -> UInt32? {
        var status = stat()
        return lstat(path.string, &status) == 0 ? status.st_gid : nil
    }

    @Test(
        "modify changes the group of the account's files with its former group, in home and snapshots; no other files, and no targets of links",
        arguments: ["homes/3723707/.snapshots", "homes/.store/3723707"])
    func modify(snapshots: String) async throws {
        let directory = try TestDirectory()
        try Self.makeHome(directory, snapshots: snapshots)
        if snapshots.contains(".store") { chmod(directory.homes.appending(".store").string, 0o700) }
        let target = Self.group("/etc/passwd")
        var entry = directory.entry()
        entry["gidNumber"] = ["5000"]
        let service = BackupRsnapshotService(configuration: try directory.configuration { $0.snapshots = .own })
        try await service.carryOut(.modify, entry)
        let home = directory.homes.appending("3723707")
        for name in ["incoming", "incoming/deep/deeper/file", "incoming/link", ".ssh", ".ssh/keys"] {
            #expect(Self.group(home.pushing(FilePath(name))) == Self.new, "\(name)")
        }
        // With SNAPSHOTS = own they are moved back into the home afterwards.
        #expect(Self.group(home.pushing(FilePath("\(HomePath.snapshotsName)/daily.0/incoming/file"))) == Self.new)
        #expect(status(home.pushing("incoming/suid")).map { $0.st_mode & 0o7777 } == 0o6755, "modes stay")
        #expect(Self.group(home.pushing("incoming/others")) == Self.old)
        #expect(Self.group(home.pushing("incoming/shared")) == 65_534)
        #expect(Self.group("/etc/passwd") == target)
    }

    @Test("if the group is that of the entry there is no step; a dry run shows the change")
    func plan() async throws {
        let directory = try TestDirectory()
        try Self.makeHome(directory, snapshots: "homes/3723707/.snapshots")
        let service = BackupRsnapshotService(configuration: try directory.configuration())
        var entry = directory.entry()
        func steps() async throws -> [any ProvisioningStep] {
            try await service.plan(ProvisioningRequest(operation: .modify, entry: entry, job: JobID(1), attempt: 1))
        }
        #expect(try await !steps().contains { $0 is GroupStep })
        entry["gidNumber"] = ["5000"]
        let step = try #require(try await steps().first)
        #expect(step is GroupStep && step.preview.hasPrefix("chgrp 5000"))
        #expect(Self.group(directory.homes.pushing("3723707/incoming")) == Self.old)
    }

    @Test("an interrupted change is repeated, since incoming itself is changed last")
    func cutOff() async throws {
        let directory = try TestDirectory()
        try Self.makeHome(directory, snapshots: "homes/3723707/.snapshots")
        var entry = directory.entry()
        entry["gidNumber"] = ["5000"]
        let configuration = try directory.configuration()
        let account = try BackupAccount(reading: entry, for: .modify, places: configuration.places)
        let home = try #require(account.homes.first)
        func change() throws -> GroupStep? {
            try GroupStep(account: account, walk: HomeWalk(to: home), confinement: .on, timeLimit: .seconds(60))
        }
        let looks = Mutex(0)
        #expect(throws: CancellationError.self) {
            try change()?.perform {
                looks.withLock { looks in
                    looks += 1
                    return looks > 3
                }
            }
        }
        #expect(try change()?.former == Self.old)
        try change()?.perform { false }
        #expect(try change() == nil)
        #expect(Self.group(directory.homes.pushing("3723707/incoming/deep/deeper/file")) == Self.new)
    }

    @Test("a directory that is moved ahead of the walk is visited once")
    func movedAhead() throws {
        let directory = try TestDirectory()
        let incoming = try directory.makeDirectory("homes/3723707/incoming")
        for number in 0..<60 { try directory.makeDirectory(FilePath("homes/3723707/incoming/\(number)")) }
        let order = try HeldDirectory(configured: incoming).names()
        for number in 0..<5 { try directory.makeDirectory(FilePath("homes/3723707/incoming/\(order[0])/S/\(number)")) }
        lchown(incoming.string, Self.user, Self.old)
        var entry = directory.entry()
        entry["gidNumber"] = ["5000"]
        let places = try directory.configuration().places
        let account = try BackupAccount(reading: entry, for: .modify, places: places)
        let home = try #require(account.homes.first)
        let change = try #require(
            try GroupStep(account: account, walk: HomeWalk(to: home), confinement: .on, timeLimit: .seconds(60)))
        let looks = Mutex(0)
        try change.perform {
            let place = looks.withLock { looks in
                looks += 1
                return looks - 1
            }
            guard place + 1 < order.count else { return false }
            rename(
                incoming.appending(order[place]).appending("S").string,
                incoming.appending(order[place + 1]).appending("S").string)
            return false
        }
        // The directories, what moves with its five, and the look at the end; else the five would be read again with every move.
        #expect(looks.withLock(\.self) < 60 + 6 + 60)
        #expect(Self.group(incoming) == Self.new)
    }

    @Test("the limit of all trees of an account does not depend on the number of snapshots")
    func nameLimit() throws {
        let directory = try TestDirectory()
        try Self.makeHome(directory, snapshots: "homes/3723707/.snapshots")
        let parent = try HeldDirectory(configured: directory.homes.appending("3723707"))
        var steps = 0
        for name in [".snapshots", ".ssh", "incoming"] as [FilePath.Component] {
            let walk = try TreeWalk(name, in: parent, limit: NameLimit(steps + 2), after: steps) { false }
            do { while try walk.next() != nil {} } catch is TreeWalk.LimitExceeded {}
            steps = walk.steps
        }
        #expect(steps > 3)
        #expect(throws: TreeWalk.LimitExceeded.self) {
            _ = try TreeWalk("incoming", in: parent, limit: NameLimit(steps), after: steps) { false }.next()
        }
    }

    @Test("another attempt continues a change of the group that TIMEOUT has stopped")
    func timeLimit() async throws {
        let directory = try TestDirectory()
        try Self.makeHome(directory, snapshots: "homes/3723707/.snapshots")
        var entry = directory.entry()
        entry["gidNumber"] = ["5000"]
        let late = BackupRsnapshotService(configuration: try directory.configuration { $0.timeLimit = .zero })
        let failure = try #require(try await late.failure(.modify, entry))
        #expect(failure.failureClass == .retryable && failure.reason.contains("within TIMEOUT"), "\(failure)")
        let incoming = directory.homes.pushing("3723707/incoming")
        #expect(Self.group(incoming) == Self.old)
        try await BackupRsnapshotService(configuration: try directory.configuration()).carryOut(.modify, entry)
        #expect(Self.group(incoming) == Self.new)
    }

    @Test("a mount inside is not changed; incoming may be one itself")
    func mounts() async throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("homes/3723707/incoming")
        let own = try TestMount(at: directory.homes.pushing("3723707/incoming"), options: "mode=0755,size=1m")
        try directory.makeDirectory("homes/3723707/incoming/mounted")
        let inner = try TestMount(
            at: directory.homes.pushing("3723707/incoming/mounted"), options: "mode=0755,uid=3723707,gid=3723707")
        try directory.write("text", to: "homes/3723707/incoming/file")
        let incoming = directory.homes.pushing("3723707/incoming")
        for path in [incoming, incoming.appending("file")] { lchown(path.string, Self.user, Self.old) }
        var entry = directory.entry()
        entry["gidNumber"] = ["5000"]
        try await BackupRsnapshotService(configuration: try directory.configuration()).carryOut(.modify, entry)
        #expect(Self.group(incoming) == Self.new && Self.group(incoming.appending("file")) == Self.new)
        #expect(Self.group(incoming.appending("mounted")) == Self.old)
        withExtendedLifetime((own, inner)) {}
    }

    @Test("with BACKUP_SANDBOX = root a group other than the account's own number is kept")
    func onPurpose() throws {
        let directory = try TestDirectory()
        try directory.makeDirectory("homes/3723707/incoming")
        let incoming = directory.homes.pushing("3723707/incoming")
        var entry = directory.entry()
        entry["gidNumber"] = ["5000"]
        let places = try directory.configuration().places
        let account = try BackupAccount(reading: entry, for: .modify, places: places)
        let home = try #require(account.homes.first)
        for (group, confinement, isChanged) in [
            (6_000, .on, true), (6_000, .off, true), (6_000, .root, false), (Self.old, .root, true),
            (Self.new, .on, false),
        ] as [(UInt32, CopyConfinement, Bool)] {
            lchown(incoming.string, Self.user, group)
            let change = try GroupStep(
                account: account, walk: HomeWalk(to: home), confinement: confinement, timeLimit: .seconds(60))
            #expect((change != nil) == isChanged, "\(group) \(confinement)")
        }
    }
}
