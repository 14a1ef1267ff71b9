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
