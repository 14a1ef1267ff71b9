import Foundation
import Glibc
import JobCore
import Provisioning
import Synchronization
import SystemPackage
import Testing

@testable import BackupService

/// Pools of volumes, with real file systems of different sizes.
@Suite struct PoolTests {
    private let uid = "3723707"

    private final class Offers: Sendable {
        let all = Mutex<[Pool]>([])
    }

    @Test("a removal that was stopped continues on its volume, which is no longer the home's")
    func removalContinues() async throws {
        let directory = try TestDirectory()
        let volumes = try ["one", "two"].map { try directory.makeDirectory(FilePath("homes/\($0)")) }
        for volume in volumes {
            let configuration = try directory.configuration {
                $0.places = HomePlaces(
                    layout: .hashed, roots: [directory.homes],
                    configuredPools: [Pool(name: "pool", volumes: volumes)])
                $0.onDelete = .remove
            }
            let left = volume.pushing(FilePath(".deleted/.removed-\(uid)-1"))
            try FileManager.default.createDirectory(atPath: left.string, withIntermediateDirectories: true)
            chmod(volume.appending(".deleted").string, 0o700)
            try await BackupRsnapshotService(configuration: configuration).carryOut(
                .delete, accountEntry(home: "/ignored", uid: uid))
            #expect(!exists(left))
        }
    }

    @Test(
        "a new home goes to the volume with the most free space, and a handler chooses among that pool's volumes alone",
        .enabled(if: isRoot, "needs root to mount small file systems"))
    func mostFree() async throws {
        let directory = try TestDirectory()
        var mounts: [TestMount] = []
        for (name, size) in [("small", 4), ("large", 32), ("other", 16)] {
            let point = try directory.makeDirectory(FilePath("homes/\(name)"))
            mounts.append(try TestMount(at: point, options: "mode=0755,size=\(size)m"))
        }
        let (small, large, other) = (
            directory.homes.appending("small"), directory.homes.appending("large"), directory.homes.appending("other")
        )
        let pools = [Pool(name: "one", volumes: [small, large]), Pool(name: "two", volumes: [other])]
        let configuration = try directory.configuration {
            $0.places = HomePlaces(layout: .hashed, roots: [directory.homes], configuredPools: pools)
        }
        let offered = Offers()
        func service(choosing volume: FilePath?) -> BackupRsnapshotService {
            var service = BackupRsnapshotService(configuration: configuration)
            service.chooseVolume = { _, pool in
                offered.all.withLock { $0.append(pool) }
                return volume
            }
            return service
        }
        let entry = accountEntry(home: "/ignored", uid: uid)
        try await service(choosing: nil).carryOut(.add, entry)
        #expect(offered.all.withLock(\.self) == [Pool(name: "one", volumes: [large, small])])
        #expect(exists(large.pushing("7/707/723/3723707/incoming")))
        let places = configuration.places
        #expect(places.volume(ofAccount: uid) == large && places.volume(ofAccount: "3729999") == small)
        let facts = try #require(places.facts(of: other))
        #expect(facts.pool == pools[1] && facts.mediaType == "tmpfs")
        #expect(places.facts(of: directory.homes) == nil)

        try await service(choosing: small).carryOut(.add, accountEntry(home: "/ignored", uid: "3723708"))
        #expect(exists(small.pushing("8/708/723/3723708/incoming")))
        try await service(choosing: other).carryOut(.add, accountEntry(home: "/ignored", uid: "3723709"))
        #expect(exists(large.pushing("9/709/723/3723709/incoming")))
        withExtendedLifetime(mounts) {}
    }

    @Test(
        "a volume that is read-only or has no free inodes is not chosen while another one has room",
        .enabled(if: isRoot, "needs root to mount small file systems"))
    func noRoom() async throws {
        let directory = try TestDirectory()
        var mounts: [TestMount] = []
        var volumes: [FilePath] = []
        for (name, options) in [("readonly", "size=64m"), ("full", "size=32m,nr_inodes=1"), ("good", "size=4m")] {
            volumes.append(try directory.makeDirectory(FilePath("homes/\(name)")))
            mounts.append(try TestMount(at: volumes[volumes.count - 1], options: "mode=0755,\(options)"))
        }
        try #require(mount("none", volumes[0].string, nil, UInt(MS_REMOUNT | MS_RDONLY), nil) == 0)
        let configuration = try directory.configuration {
            $0.places = HomePlaces(
                layout: .hashed, roots: [directory.homes], configuredPools: [Pool(name: "one", volumes: volumes)])
        }
        try await BackupRsnapshotService(configuration: configuration)
            .carryOut(.add, accountEntry(home: "/ignored", uid: uid))
        #expect(exists(volumes[2].pushing("7/707/723/3723707/incoming")))
        withExtendedLifetime(mounts) {}
    }

    @Test("a volume with two names is not taken for two homes of each account")
    func twins() async throws {
        let directory = try TestDirectory()
        let link = directory.path.appending("link")
        let entry = accountEntry(home: "/ignored", uid: uid)
        func service(_ roots: [FilePath]) throws -> BackupRsnapshotService {
            BackupRsnapshotService(
                configuration: try directory.configuration { $0.places = HomePlaces(layout: .hashed, roots: roots) })
        }
        try await service([directory.homes]).carryOut(.add, entry)
        try directory.link("link", to: directory.homes)
        let failure = try await service([link, directory.homes]).failure(.modify, entry)
        #expect(failure?.failureClass == .configuration && failure?.hint.contains("name it once") == true)
        #expect(failure?.reason == "\(link) and \(directory.homes) are the same directory")
        try await service([link]).carryOut(.modify, entry)
    }

    @Test("without pools the roots are the volumes of a default pool; a volume in two pools is reported")
    func defaults() {
        let plain = HomePlaces(roots: ["/var/backup"], configuredPools: [Pool(name: "empty", volumes: [])])
        #expect(plain.pools == [Pool(name: "Default", volumes: ["/var/backup"])] && plain.problems.isEmpty)
        let twice = HomePlaces(
            roots: ["/srv"],
            configuredPools: [Pool(name: "a", volumes: ["/srv/1"]), Pool(name: "b", volumes: ["/srv/1"])])
        #expect(twice.problems.map(\.reason) == ["VOLUMES names /srv/1 twice"])
        #expect(twice.pool(of: "/srv/2") == nil)
    }
}
