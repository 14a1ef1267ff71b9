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
            BackupRsnapshotService(
                configuration: configuration,
                chooseVolume: { _, pool in
                    offered.all.withLock { $0.append(pool) }
                    return volume
                })
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
