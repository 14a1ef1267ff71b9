import Glibc
import Provisioning

/// Finds the one place of an account's home among those where it may lie.
struct HomeChoice {
    let configuration: BackupConfiguration

    /// Where the account's folder exists already, else the volume with the most free space.
    /// - Throws: code 4 when a volume cannot be examined, for the home might be there, or when two volumes hold one.
    func home(of account: BackupAccount) throws(ProvisioningFailure) -> HomePath {
        if account.homes.count == 1, configuration.places.layout == .attribute { return account.homes[0] }
        var walks: [HomeWalk] = []
        for home in account.homes {
            let walk = try HomeWalk(to: home)
            guard walk.base != nil else {
                throw ProvisioningFailure(
                    .cannotCheckHomeDirPresence, .configuration, reason: "the volume \(home.base) does not exist",
                    cure: "mount it, or correct VOLUMES")
            }
            walks.append(walk)
        }
        let existing = walks.filter { $0.account != nil }
        guard existing.count < 2 else {
            throw ProvisioningFailure(
                .cannotCheckHomeDirPresence,
                reason:
                    "the account has homes in \(existing.map { "\($0.home.accountDirectory)" }.joined(separator: " and "))",
                cure: "move one of them away")
        }
        if let walk = existing.first { return walk.home }
        let spaces = walks.map { ($0.home, Self.free($0)) }
        return spaces.max { $0.1 < $1.1 }?.0 ?? account.homes[0]
    }

    private static func free(_ walk: HomeWalk) -> UInt64 {
        var system = statvfs()
        guard let base = walk.base, fstatvfs(base.descriptor, &system) == 0 else { return 0 }
        return UInt64(system.f_bavail) * UInt64(system.f_frsize)
    }
}
