-- A module file for Lmod: modulefiles/hpc-proxy/VERSION.lua. The archive's directory is renamed to
-- /opt/hpc-proxy/VERSION; for another place than /opt set HPC_PROXY_ROOT where modules are loaded.
help([[
hpc-proxy gives you one door to your own dev servers on a compute node. See `man hpc-proxy`.
]])
whatis("Name: hpc-proxy")
whatis("Version: " .. myModuleVersion())
whatis("Description: a per-user reverse proxy for dev servers on shared nodes")
local root = pathJoin(os.getenv("HPC_PROXY_ROOT") or "/opt", myModuleName(), myModuleVersion())
prepend_path("PATH", pathJoin(root, "bin"))
prepend_path("MANPATH", pathJoin(root, "share/man"))
