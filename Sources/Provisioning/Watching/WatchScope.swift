public import LDAP

/// Which entries a daemon watches.
public struct WatchScope: Hashable, Sendable {
    /// The subtree that holds the accounts (setting `SERVICE_SUBTREE`).
    public var base: DN
    /// A further condition of the site's (setting `SEARCH_FILTER`).
    public var condition: Filter?
    /// nil: all hosts' accounts.
    public var hosts: [String]?
    /// What the attributes are called.
    public var names: AttributeNames

    /// A scope; by default every account below the base.
    public init(base: DN, condition: Filter? = nil, hosts: [String]? = nil, names: AttributeNames) {
        self.base = base
        self.condition = condition
        self.hosts = hosts
        self.names = names
    }

    /// Every account that takes part in provisioning and is ours.
    public var accounts: Filter {
        .and([.present(names.mode), .present(names.state)] + limits)
    }

    /// The same scope, for the accounts of whichever host.
    public var ofAllHosts: Self {
        var scope = self
        scope.hosts = nil
        return scope
    }

    /// What is to be done: wishes, and claims without an outcome. The equality on the state lets the server answer from
    /// its index, so the cost does not grow with the accounts that are done.
    public var pending: Filter {
        func any(_ stage: ProvisioningMode.Stage) -> [Filter] {
            Operation.allCases.map {
                .equal(names.mode, AttributeValue(ProvisioningMode($0, stage).description))
            }
        }
        let unfinished =
            names.returnValue.map { [.and([.or(any(.claimed)), .not(.present($0))])] } ?? any(.claimed)
        return .and([.equal(names.state, "0"), .or(any(.wish) + unfinished)] + limits)
    }

    /// Claims whose last attempt has failed; none can be told where the directory has no place for a ReturnValue.
    public var failed: Filter? {
        guard let returnValue = names.returnValue else { return nil }
        let claimed = Operation.allCases.map {
            Filter.equal(names.mode, AttributeValue(ProvisioningMode($0, .claimed).description))
        }
        return .and([.equal(names.state, "0"), .or(claimed), .present(returnValue)] + limits)
    }

    private var limits: [Filter] {
        let ours = hosts.map { hosts in [Filter.or(hosts.map { .equal(names.host, AttributeValue($0)) })] } ?? []
        return ours + (condition.map { [$0] } ?? [])
    }
}
