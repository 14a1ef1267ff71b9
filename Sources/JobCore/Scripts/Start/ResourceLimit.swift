import Glibc

/// How much of something a script may use, each of its processes for itself where the kernel does not say otherwise (setrlimit(2)).
public struct ResourceLimit: Hashable, Sendable {
    /// What is limited, by the names of prlimit(1) and ulimit.
    public enum Resource: String, CaseIterable, Hashable, Sendable {
        /// Address space, in bytes.
        case addressSpace = "as"
        /// The size of core files, in bytes.
        case coreFile = "core"
        /// Time of the processor, in seconds: SIGXCPU at the soft limit, SIGKILL at the hard one.
        case processorTime = "cpu"
        /// Data segment, in bytes.
        case data = "data"
        /// The size of any file written, in bytes: SIGXFSZ beyond it.
        case fileSize = "fsize"
        /// Locked memory, in bytes.
        case lockedMemory = "memlock"
        /// Open descriptors.
        case openFiles = "nofile"
        /// Processes of the user, all of them together. Root is not held to it.
        case processes = "nproc"
        /// Stack, in bytes.
        case stack = "stack"

        var number: Int32 {
            let resource =
                switch self {
                case .addressSpace: RLIMIT_AS
                case .coreFile: RLIMIT_CORE
                case .processorTime: RLIMIT_CPU
                case .data: RLIMIT_DATA
                case .fileSize: RLIMIT_FSIZE
                case .lockedMemory: __RLIMIT_MEMLOCK
                case .openFiles: RLIMIT_NOFILE
                case .processes: __RLIMIT_NPROC
                case .stack: RLIMIT_STACK
                }
            return Int32(resource.rawValue)
        }
    }

    /// What is limited.
    public var resource: Resource
    /// Up to where it works; nil: without end.
    public var soft: UInt64?
    /// How far the script itself may raise the soft limit; nil: without end.
    public var hard: UInt64?

    /// - Parameters:
    ///   - soft: in the unit of the resource; at most the hard limit.
    ///   - hard: only root may raise it beyond the one that this process has.
    public init(_ resource: Resource, soft: UInt64?, hard: UInt64?) {
        self.resource = resource
        self.soft = soft
        self.hard = hard
    }

    /// The same limit for both.
    public init(_ resource: Resource, _ limit: UInt64?) { self.init(resource, soft: limit, hard: limit) }

    /// For the kernel: RLIM_INFINITY is all bits set.
    static func number(_ limit: UInt64?) -> UInt64 { limit ?? UInt64.max }
}
