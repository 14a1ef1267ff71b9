import SystemPackage

/// Why a script cannot run as a user.
public struct ScriptUserError: Error, Hashable, Sendable {
    /// What kind of fault it is.
    public enum Problem: Hashable, Sendable {
        /// The machine has no such user.
        case unknown
        /// The databases failed to answer, with this number of the C library.
        case noAnswer(errno: Int32)
        /// Root keeps every right, so it is nobody to give rights away to.
        case root
    }

    /// The name that was asked for.
    public var name: String
    /// What is wrong with it.
    public var problem: Problem

    /// A fault as ``ScriptUser`` finds it.
    public init(_ name: String, _ problem: Problem) {
        self.name = name
        self.problem = problem
    }

    /// What another try can be expected to bring.
    public var failureClass: FailureClass {
        switch problem {
        case .noAnswer(let number): FailureClass(Errno(rawValue: number)) ?? .retryable
        case .unknown, .root: .configuration
        }
    }
}

extension ScriptUserError: CustomStringConvertible {
    /// `user "name" reason; cure`
    public var description: String {
        let user = "user \"\(OneLine.escaping(name))\""
        return switch problem {
        case .unknown:
            "\(user), as whom a script is to run, is not known to the system; \(cure)"
        case .noAnswer(let number):
            "\(user), as whom a script is to run: the system's user database did not answer (\(Errno(rawValue: number)), errno \(number)); \(cure)"
        case .root:
            "\(user), as whom a script is to run, has every right; \(cure)"
        }
    }

    /// What fixes it.
    package var cure: String {
        switch problem {
        case .unknown: "correct the setting (getent passwd lists the users), or add the user with useradd"
        case .noAnswer(let number) where Errno(rawValue: number).isShortage:
            Errno(rawValue: number).shortageHint(at: "/etc")
        case .noAnswer: "see what getent passwd says"
        case .root: "leave the setting empty to run scripts as the daemon's user"
        }
    }
}
