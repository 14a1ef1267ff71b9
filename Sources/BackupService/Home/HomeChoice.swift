import Glibc
import Provisioning
package import SystemPackage

/// The volumes among which the place of a new home is chosen.
package struct VolumeChoice: Hashable, Sendable {
    /// The pool with the volume that has the most free space of all.
    package let pool: Pool
    /// Those of the pool, that with the most free space first.
    package let volumes: [FilePath]
}

/// Finds the one place of an account's home among those where it may lie.
struct HomeChoice {
    enum Place {
        /// The home's place is fixed, or its directory stands there already.
        case given(HomePath)
        /// Nothing stands anywhere yet.
        case new(VolumeChoice)
    }

    let configuration: BackupConfiguration

    /// - Throws: code 4 when a volume cannot be examined, for the home might be there, or when two volumes hold one.
    func place(of account: BackupAccount) throws(ProvisioningFailure) -> Place {
        if configuration.places.layout == .attribute, let home = account.homes.first { return .given(home) }
        var walks: [HomeWalk] = []
        for home in account.homes {
            let walk = try HomeWalk(to: home)
            guard walk.base != nil else {
                throw ProvisioningFailure(
                    .cannotCheckHomeDirPresence, .configuration, reason: "the volume \(home.base) does not exist",
                    hint: "mount it, or correct VOLUMES")
            }
            walks.append(walk)
        }
        let existing = walks.filter { $0.account != nil }
        guard existing.count < 2 else {
            let directories = existing.map { "\($0.home.accountDirectory)" }.joined(separator: " and ")
            throw ProvisioningFailure(
                .cannotCheckHomeDirPresence, reason: "\(account.dn): the account has homes in \(directories)",
                hint: "move one of them away")
        }
        if let walk = existing.first { return .given(walk.home) }
        // Where the home is gone, its snapshots may still be there.
        for walk in walks where try walk.store() != nil { return .given(walk.home) }
        let volumes = walks.map { ($0.home.base, Self.free($0)) }.sorted { $0.1 > $1.1 }.map(\.0)
        guard let pool = volumes.first.flatMap({ configuration.places.pool(of: $0) }) else {
            throw ProvisioningFailure(
                .cannotCheckHomeDirPresence, .configuration, reason: "no volume is configured",
                hint: "name the volumes in VOLUMES of a [Pool NAME] section")
        }
        return .new(VolumeChoice(pool: pool, volumes: volumes.filter(pool.volumes.contains)))
    }

    private static func free(_ walk: HomeWalk) -> UInt64 {
        var system = statvfs()
        guard let base = walk.base, fstatvfs(base.descriptor, &system) == 0 else { return 0 }
        return UInt64(system.f_bavail) * UInt64(system.f_frsize)
    }
}
