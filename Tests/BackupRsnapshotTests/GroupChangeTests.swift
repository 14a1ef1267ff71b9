import Foundation
import Glibc
import JobCore
import Provisioning
import SystemPackage
import Testing

@testable import BackupRsnapshot

/// What becomes of an account's files when its entry names another group.
@Suite(.enabled(if: isRoot, "only root changes owners")) struct GroupChangeTests {
    private static let (user, old, new): (UInt32, UInt32, UInt32) = (3_723_707, 3_723_707, 5_000)

    /// A home with files of the account and of others.
    private static func makeHome(_ folder: TestFolder, snapshots: String) throws {
        try folder.makeFolder("homes/3723707/incoming/deep/deeper")
        try folder.makeFolder("homes/3723707/.ssh")
        try folder.makeFolder("homes/3723707/.snapshots")
        try folder.makeFolder(FilePath("\(snapshots)/daily.0/incoming"))
        for name in [
            "homes/3723707/incoming/deep/deeper/file", "homes/3723707/.ssh/keys", "\(snapshots)/daily.0/incoming/file",
        ] {
            try folder.write("text", to: FilePath(name))
        }
        for name in ["homes/3723707/incoming", "homes/3723707/.ssh", "\(snapshots)/daily.0/incoming"] {
            let top = folder.path.pushing(FilePath(name))
            let names = FileManager.default.enumerator(atPath: top.string)?.compactMap { $0 as? String } ?? []
            for path in [top] + names.map({ top.pushing(FilePath($0)) }) { lchown(path.string, user, old) }
        }
        let incoming = folder.homes.pushing("3723707/incoming")
        symlink("/etc/passwd", incoming.appending("link").string)
        lchown(incoming.appending("link").string, user, old)
        try folder.write("another's", to: "homes/3723707/incoming/others")
        lchown(incoming.appending("others").string, 65_534, old)
        try folder.write("of another group", to: "homes/3723707/incoming/shared")
        lchown(incoming.appending("shared").string, user, 65_534)
    }

    private static func group(_ path: FilePath) -> UInt32? {
        var status = stat()
        return lstat(path.string, &status) == 0 ? status.st_gid : nil
    }

    @Test(
        "modify brings along what is the account's and had its group, in home and snapshots; nothing else, and nothing that a link leads to",
        arguments: ["homes/3723707/.snapshots", "homes/.store/3723707"])
    func modify(snapshots: String) async throws {
        let folder = try TestFolder()
        try Self.makeHome(folder, snapshots: snapshots)
        if snapshots.contains(".store") { chmod(folder.homes.appending(".store").string, 0o700) }
        let target = Self.group("/etc/passwd")
        var entry = folder.entry()
        entry["gidNumber"] = ["5000"]
        let service = BackupRsnapshotService(configuration: try folder.configuration { $0.snapshots = .own })
        try await service.carryOut(.modify, entry)
        let home = folder.homes.appending("3723707")
        for name in ["incoming", "incoming/deep/deeper/file", "incoming/link", ".ssh", ".ssh/keys"] {
            #expect(Self.group(home.pushing(FilePath(name))) == Self.new, "\(name)")
        }
        let places = ["homes/3723707/.snapshots", "homes/.store/3723707"]
        let copies = places.map { folder.path.pushing(FilePath($0)).pushing("daily.0/incoming/file") }
        #expect(copies.contains { Self.group($0) == Self.new })
        #expect(Self.group(home.pushing("incoming/others")) == Self.old)
        #expect(Self.group(home.pushing("incoming/shared")) == 65_534)
        #expect(Self.group("/etc/passwd") == target)
    }

    @Test("where the group is as the entry says there is no step; a dry run shows what would be changed")
    func plan() async throws {
        let folder = try TestFolder()
        try Self.makeHome(folder, snapshots: "homes/3723707/.snapshots")
        let service = BackupRsnapshotService(configuration: try folder.configuration())
        var entry = folder.entry()
        func steps() async throws -> [any ProvisioningStep] {
            try await service.plan(ProvisioningRequest(operation: .modify, entry: entry, job: JobID(1), attempt: 1))
        }
        #expect(try await !steps().contains { $0 is GroupStep })
        entry["gidNumber"] = ["5000"]
        let step = try #require(try await steps().first)
        #expect(step is GroupStep && step.preview.hasPrefix("chgrp 5000"))
        #expect(Self.group(folder.homes.pushing("3723707/incoming")) == Self.old)
    }
}
