import DirectoryModel
import Foundation
import Glibc
import Provisioning
import SystemPackage
import Testing

@testable import BackupRsnapshot

/// Two daemons with one storage.
@Suite struct HomeLockTests {
    @Test("one daemon at a time works on a home; another home is free, and nothing is left behind")
    func exclusive() async throws {
        let folder = try TestFolder()
        let (one, two) = (
            BackupRsnapshotService(configuration: try folder.configuration()),
            BackupRsnapshotService(configuration: try folder.configuration())
        )
        let directory = folder.homes.appending(".locks")
        var lock = try await one.lock(folder.entry())
        #expect(lock != nil)
        #expect(try await two.lock(folder.entry()) == nil)
        #expect(try await two.lock(folder.entry(uid: "3723708")) != nil)
        #expect(status(directory).map { $0.st_mode & 0o7777 } == 0o700)
        lock = nil
        lock = try await two.lock(folder.entry())
        #expect(lock != nil)
        #expect(try await one.lock(folder.entry()) == nil)
        lock = nil
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string).isEmpty)
    }

    @Test("a lock that cannot be taken is told, with the place, and nothing goes on without it")
    func cannot() async throws {
        let folder = try TestFolder()
        let service = BackupRsnapshotService(configuration: try folder.configuration())
        symlink("/tmp", folder.homes.appending(".locks").string)
        let failure = await #expect(throws: ProvisioningFailure.self) { try await service.lock(folder.entry()) }
        #expect(
            failure?.failureClass == .configuration && failure?.cure.contains(".locks") == true,
            "\(String(describing: failure))")
    }

    @Test(
        "of several volumes the first of the settings has the lock, wherever the home is, and the others need not be there"
    )
    func volumes() async throws {
        let folder = try TestFolder()
        let (one, two) = (folder.homes.appending("one"), folder.homes.appending("two"))
        try folder.makeFolder("homes/one")
        let service = BackupRsnapshotService(
            configuration: try folder.configuration {
                $0.places = HomePlaces(
                    layout: .hashed, roots: [folder.homes], pools: [Pool(name: "a", volumes: [one, two])])
            })
        let lock = try await service.lock(folder.entry())
        #expect(lock != nil && exists(one.appending(".locks/3723707")))
        #expect(try await service.lock(folder.entry()) == nil)
    }

    @Test("what names no home to work on is left to the plan; a root that is not there is told")
    func without() async throws {
        let folder = try TestFolder()
        var entry = folder.entry()
        entry["homeDirectory"] = ["/etc/3723707"]
        let service = BackupRsnapshotService(configuration: try folder.configuration())
        #expect(try await service.lock(entry) != nil)
        let missing = BackupRsnapshotService(
            configuration: try folder.configuration {
                $0.places = HomePlaces(layout: .attribute, roots: [folder.homes.appending("none")], pools: [])
            })
        entry["homeDirectory"] = [AttributeValue("\(folder.homes)/none/3723707")]
        await #expect(throws: ProvisioningFailure.self) { try await missing.lock(entry) }
    }
}
