public import DirectoryModel
import JobCore
import Provisioning
public import SystemPackage

/// What handlers are told of the volume that holds an account's home, or will hold it (row B7).
public struct VolumeFacts: Hashable, Sendable {
    /// The volume's path, which is also its name.
    public let volume: FilePath
    /// The pool that it belongs to.
    public let pool: Pool
    /// The type of its file system, such as `ext4`; empty where it cannot be told.
    public let mediaType: String
}

extension BackupConfiguration {
    /// The volume of an account.
    /// - Parameter entry: with the attributes of ``BackupRsnapshotService/requestedAttributes``.
    /// - Returns: nil where it has none, because the entry or the disk is not as it should be: that is for the job itself to say.
    public func volume(of entry: Entry) async throws -> VolumeFacts? {
        let configuration = self
        return try await BlockingWork.run { _ in
            do {
                let account = try BackupAccount(reading: entry, for: .delete, places: configuration.places)
                let volume: FilePath
                switch try HomeChoice(configuration: configuration).place(of: account) {
                case .given(let home): volume = home.base
                case .new(let choice): volume = choice.volumes[0]
                }
                return try configuration.places.facts(of: volume)
            } catch is ProvisioningFailure {
                return nil
            }
        }
    }
}

extension HomePlaces {
    /// - Returns: nil for a folder that is no volume.
    func facts(of volume: FilePath) throws -> VolumeFacts? {
        guard let pool = pool(of: volume) else { return nil }
        var type = ""
        do {
            type = try MountTable.current().mount(holding: HeldFolder(configured: volume))?.type ?? ""
        } catch is HeldFolder.Failure {
            type = ""
        }
        return VolumeFacts(volume: volume, pool: pool, mediaType: type)
    }
}
