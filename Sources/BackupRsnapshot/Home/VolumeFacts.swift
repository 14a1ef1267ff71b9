import Glibc
public import SystemPackage

/// What handlers are told of a volume (row B7).
public struct VolumeFacts: Hashable, Sendable {
    /// The volume's path, which is also its name.
    public let volume: FilePath
    /// The pool that it belongs to.
    package let pool: Pool
    /// The type of its file system, such as `ext4`; empty where it cannot be told.
    public let mediaType: String
}

extension HomePlaces {
    /// The volume that holds an account's home, as far as its uid tells: where homes lie where their entries say, and while there is no home
    /// yet, it is the first one.
    /// - Parameter uid: nil, and whatever is no uid: the first volume. It looks at the disk.
    public func volume(ofAccount uid: String?) -> FilePath? {
        guard layout == .hashed, volumes.count > 1, let uid, uid.count >= 7, uid.utf8.allSatisfy({ 0x30...0x39 ~= $0 })
        else { return volumes.first }
        let home = volumes.first { volume in
            access(hashedHome(uid: uid, volume: volume).accountDirectory.string, F_OK) == 0
        }
        return home ?? volumes.first
    }

    /// By the kernel's list of mounts; the volume itself is not touched.
    /// - Returns: nil for a folder that is no volume.
    public func facts(of volume: FilePath) -> VolumeFacts? {
        guard let pool = pool(of: volume) else { return nil }
        let type: String?
        do {
            type = try MountTable.current(near: volume).mount(holding: volume, device: "")?.type
        } catch {
            type = nil
        }
        return VolumeFacts(volume: volume, pool: pool, mediaType: type ?? "")
    }
}
